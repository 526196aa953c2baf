import subprocess
import sys

import cv2
import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.report.figures import OverlayPanel, OverlayRow, draw_embedding, draw_overlays

CASES = 40
XY = derive_rng(0, "places").normal(size=(CASES, 2))
MODALITIES = ["MRI"] * 25 + ["US"] * 15
CLIENTS = [f"client {index % 9}" for index in range(CASES)]


def disc(centre, radius, side=48):
    rows, columns = np.ogrid[:side, :side]
    return ((rows - centre) ** 2 + (columns - centre) ** 2 < radius**2).astype(np.uint8)


def panel(truth, prediction, caption="median: case 7, Dice 0.83"):
    image = derive_rng(0, "panel").random(truth.shape, dtype=np.float32)
    return OverlayPanel(image, truth, prediction, caption)


def rows():
    cases = [panel(disc(24, 9), disc(26, 8)), panel(disc(20, 5), disc(20, 5)), panel(disc(9, 4), disc(30, 4))]
    return [OverlayRow("client 1 (MRI)", cases), OverlayRow("server US", cases[:2])]


def draw_all(folder):
    folder.mkdir(exist_ok=True)
    draw_embedding(folder / "map.png", folder / "map.svg", XY, MODALITIES, CLIENTS, "Training images")
    draw_overlays(folder / "overlays.png", rows())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder, draw_all(folder)


def test_figures_are_the_only_files_left(drawn):
    assert sorted(drawn[1]) == ["map.png", "map.svg", "overlays.png"]


@pytest.mark.parametrize("name", ["map.png", "overlays.png"])
def test_png_decodes_and_is_not_blank(drawn, name):
    picture = cv2.imread(str(drawn[0] / name))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10


def test_same_input_gives_the_same_bytes(drawn, tmp_path):
    assert draw_all(tmp_path) == drawn[1]


def test_svg_carries_no_date(drawn):
    svg = drawn[1]["map.svg"].decode()
    assert svg.lstrip().startswith("<?xml")
    assert "<dc:date>" not in svg


def has_colour(path, rgb):
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)
    return bool((np.abs(picture - rgb).max(axis=2) < 12).any())


def test_points_are_drawn_in_the_colours_of_both_modalities(tmp_path):
    draw_embedding(tmp_path / "m.png", tmp_path / "m.svg", XY, MODALITIES, ["one"] * CASES, "Map")
    assert has_colour(tmp_path / "m.png", (230 * 0.75 + 64, 159 * 0.75 + 64, 64))


def test_masks_empty_or_full_are_drawn(tmp_path):
    empty, full = np.zeros((48, 48), np.uint8), np.ones((48, 48), np.uint8)
    draw_overlays(tmp_path / "o.png", [OverlayRow("server", [panel(empty, full), panel(full, empty)])])
    assert cv2.imread(str(tmp_path / "o.png")) is not None


def test_colour_images_keep_their_colours(tmp_path):
    image = np.full((48, 48, 3), (0.2, 0.9, 0.4), np.float32)
    empty = np.zeros((48, 48), np.uint8)
    draw_overlays(tmp_path / "o.png", [OverlayRow("server", [OverlayPanel(image, empty, empty, "polyp")])])
    assert has_colour(tmp_path / "o.png", (51, 230, 102))


def test_rows_add_height_and_keep_the_width(tmp_path):
    draw_overlays(tmp_path / "two.png", rows())
    draw_overlays(tmp_path / "four.png", rows() * 2)
    two, four = (cv2.imread(str(tmp_path / name)).shape for name in ("two.png", "four.png"))
    assert four[1] == two[1]
    assert four[0] > 1.5 * two[0]


def test_a_long_caption_keeps_its_case_and_its_score(tmp_path):
    long = panel(disc(24, 9), disc(26, 8), "worst: " + "a very long case name " * 8 + "Dice 0.10")
    short = panel(disc(24, 9), disc(26, 8))
    for name, case in (("long.png", long), ("short.png", short)):
        draw_overlays(tmp_path / name, [OverlayRow("client", [case, short])])
    drawn_long, drawn_short = (cv2.imread(str(tmp_path / name)) for name in ("long.png", "short.png"))
    middle = drawn_long.shape[1] // 2
    np.testing.assert_array_equal(drawn_long[:, middle:], drawn_short[:, middle:])


def test_nothing_to_draw_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="got no case"):
        draw_overlays(tmp_path / "o.png", [OverlayRow("client", [])])
    assert list(tmp_path.iterdir()) == []


def test_places_without_their_labels_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="one modality and one client per case"):
        draw_embedding(tmp_path / "m.png", tmp_path / "m.svg", XY, MODALITIES[1:], CLIENTS, "Map")


def test_a_failed_write_leaves_the_old_figure(tmp_path):
    path = tmp_path / "o.png"
    path.write_bytes(b"old")
    bad = OverlayPanel(np.zeros((2, 2, 2, 2)), disc(24, 9), disc(24, 9), "broken")
    with pytest.raises(TypeError):
        draw_overlays(path, [OverlayRow("client", [bad])])
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_import_does_not_load_matplotlib():
    code = "import sys, flames_cli.report.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
