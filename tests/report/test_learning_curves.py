import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.report import learning_curves
from flames_cli.report.canvas import PALETTE
from flames_cli.report.learning_curves import (
    MOST_LINES,
    LearningCurves,
    draw_curves_inline,
    draw_learning_curves,
    make_band,
)


def make_curves(n=2, **changes):
    names = [f"client {number}" for number in range(n)]
    curves = LearningCurves(
        title="run mine: flames, model unet",
        loss={name: [(1, 0.5), (2, 0.4), (3, 0.3)] for name in names},
        dice={name: [(0, 0.1), (1, 0.3), (2, 0.5 - 0.01 * i), (3, 0.6)] for i, name in enumerate(names)},
        bands={name: ("MRI", "US")[number % 2] for number, name in enumerate(names)},
    )
    return replace(curves, **changes)


def drawn(tmp_path, curves):
    """Return the bytes of the picture, which is not blank."""
    path = tmp_path / "rounds.png"
    draw_learning_curves(path, curves)
    picture = cv2.imread(str(path))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10
    return path.read_bytes()


@pytest.fixture
def legends(monkeypatch):
    """Return the legend entries of every picture drawn."""
    found = []
    save = learning_curves.save_figure

    def note(figure, *args):
        found.append([text.get_text() for text in figure.legends[0].get_texts()])
        save(figure, *args)

    monkeypatch.setattr(learning_curves, "save_figure", note)
    return found


def test_the_same_curves_give_the_same_bytes(tmp_path):
    assert drawn(tmp_path, make_curves()) == drawn(tmp_path, make_curves())


def test_each_client_has_a_line_and_all_have_one_together(tmp_path, legends):
    drawn(tmp_path, make_curves(3, pooled=[(1, 0.3), (2, 0.5)]))
    assert legends == [["client 0", "client 1", "client 2", "all clients, mean over images"]]


def test_more_clients_are_drawn_as_bands_by_modality(tmp_path, legends):
    drawn(tmp_path, make_curves(MOST_LINES - 1))
    drawn(tmp_path, make_curves(MOST_LINES))
    drawn(tmp_path, make_curves(31, bands={}))
    assert len(legends[0]) == MOST_LINES - 1
    assert legends[1] == ["MRI: 4 clients, mean and range", "US: 4 clients, mean and range"]
    assert legends[2] == ["31 clients, mean and range"]


def test_modalities_that_are_too_many_for_bands_of_their_own_share_one(tmp_path, legends):
    names = make_curves(12).loss
    drawn(tmp_path, make_curves(12, bands={name: name for name in names}))
    assert legends == [["12 clients, mean and range"]]


def test_rejected_reports_final_models_and_best_rounds_are_in_the_legend(tmp_path, legends):
    marked = {
        "final": {"client 0": (3, 0.6)},
        "rejected": [("client 1", 2)],
        "marks": {"best": 2, "best-small": 2},
    }
    for n in (2, 20):
        drawn(tmp_path, make_curves(n, **marked))
        assert legends.pop()[-3:] == [
            "final models",
            "rejected or missing report (1)",
            "best, best-small: round 2",
        ]


def test_a_rejected_report_has_its_client_s_colour(tmp_path):
    colour = np.array([int(PALETTE[5][i : i + 2], 16) for i in (5, 3, 1)])

    def pixels(**changes):
        drawn(tmp_path, make_curves(6, **changes))
        picture = cv2.imread(str(tmp_path / "rounds.png")).astype(int)
        return int((np.abs(picture - colour).max(axis=2) < 12).sum())

    assert pixels(rejected=[("client 5", 2)]) > pixels()


def test_curves_without_validation_patients_are_drawn(tmp_path, legends):
    drawn(tmp_path, make_curves(dice={}))
    assert legends == [["client 0", "client 1"]]


def test_no_round_is_rejected_and_the_old_picture_stays(tmp_path):
    path = tmp_path / "rounds.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="got no round to draw"):
        draw_learning_curves(path, make_curves(loss={}))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_band_counts_a_client_that_was_not_asked_with_its_last_value():
    band = make_band([[(1, 0.2), (2, 0.4)], [(1, 0.6)], [(2, 1.0)]])
    assert band.rounds.tolist() == [1, 2]
    np.testing.assert_allclose(band.mean, [0.4, (0.4 + 0.6 + 1.0) / 3])
    np.testing.assert_allclose([band.low, band.high], [[0.2, 0.4], [0.6, 1.0]])


points = st.dictionaries(st.integers(0, 9), st.floats(0, 1), max_size=5).map(
    lambda found: sorted(found.items())
)


@given(st.lists(points, min_size=1, max_size=5))
def test_a_mean_is_between_the_limits_of_its_band(series):
    band = make_band(series)
    assert np.all(band.low <= band.mean + 1e-12)
    assert np.all(band.mean <= band.high + 1e-12)
    assert band.rounds.tolist() == sorted({number for points in series for number, _ in points})


def test_import_does_not_load_matplotlib():
    code = "import sys, flames_cli.report.learning_curves; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_has_a_drawing_of_the_loss_and_one_of_the_dice():
    loss, dice = (str(one.svg) for one in draw_curves_inline(make_curves(marks={"best": 2}), "a"))
    assert "training loss of the clients" in loss
    assert "validation Dice of the models as received" in dice
    assert "best: round 2" in dice
    for svg in (loss, dice):
        assert "client 0</text>" in svg
        assert "client 1</text>" in svg
    assert len(draw_curves_inline(make_curves(dice={}), "a")) == 1
    with pytest.raises(ValueError, match="no round to draw"):
        draw_curves_inline(make_curves(loss={}), "a")


def test_many_clients_are_bands_in_a_page_too():
    _, dice = draw_curves_inline(make_curves(MOST_LINES + 2), "a")
    assert "MRI: 5 clients, mean and range</text>" in str(dice.svg)
