import subprocess
import sys
from dataclasses import replace

import cv2
import pytest

from flames_cli.report.heat_map import HeatMap, draw_heat_map

MATRIX = HeatMap(
    title="run mine: cross-site Dice",
    rows=("a", "b", "c"),
    columns=("a (3)", "b (2)"),
    values=((0.9, 0.1), (None, 0.8), (0.0, 1.0)),
    row_groups=("MRI", "US", "US"),
    column_groups=("MRI", "US"),
    marked=((0, 0), (1, 1)),
)


def drawn(tmp_path, matrix):
    draw_heat_map(tmp_path / "m.png", matrix)
    picture = cv2.imread(str(tmp_path / "m.png"))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10
    return (tmp_path / "m.png").read_bytes()


def test_the_same_matrix_gives_the_same_bytes(tmp_path):
    assert drawn(tmp_path, MATRIX) == drawn(tmp_path, MATRIX)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": ((0.9, 0.1), (0.2, 0.8), (0.0, 1.0))},
        {"marked": ()},
        {"row_groups": ("MRI", "MRI", "US")},
        {"title": "run other"},
    ],
)
def test_values_frames_groups_and_title_are_visible(changes, tmp_path):
    assert drawn(tmp_path, replace(MATRIX, **changes)) != drawn(tmp_path, MATRIX)


def test_more_clients_make_a_larger_picture(tmp_path):
    names = tuple(f"a hospital with a very long name {number}" for number in range(30))
    large = HeatMap("t", names, names, [[0.5] * 30] * 30, ["MRI"] * 30, ["MRI"] * 30)
    drawn(tmp_path, large)
    picture = cv2.imread(str(tmp_path / "m.png"))
    assert min(picture.shape[:2]) > 2500


@pytest.mark.parametrize(
    "changes", [{"values": ((0.9,), (0.1,), (0.2,))}, {"rows": (), "values": ()}, {"rows": ("a", "b")}]
)
def test_a_matrix_of_another_shape_is_rejected(changes, tmp_path):
    with pytest.raises(ValueError, match="expected as many values"):
        draw_heat_map(tmp_path / "m.png", replace(MATRIX, **changes))
    assert list(tmp_path.iterdir()) == []


def test_import_does_not_load_matplotlib():
    code = "import sys, flames_cli.report.heat_map; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
