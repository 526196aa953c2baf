import numpy as np
import pytest
from PIL import Image

from flames_cli.report.calibration import FEWEST, ReliabilityCurve, draw_reliability


def curve(name, shares, counts=None):
    probabilities = [0.02, 0.3, 0.6, 0.95][: len(shares)]
    return ReliabilityCurve(name, 0.1, probabilities, shares, counts or [1000] * len(shares))


def draw(folder, curves, name="a.png"):
    path = folder / name
    draw_reliability(path, curves, "calibration of flames")
    return path


def test_the_picture_shows_the_curves_and_is_the_same_again(tmp_path):
    curves = [curve("brats-1", [0.1, 0.2, 0.4, 0.9]), curve("busi", [0.0, 0.5])]
    path = draw(tmp_path, curves)
    assert path.read_bytes() == draw(tmp_path, curves, "b.png").read_bytes()
    one, two = (np.asarray(Image.open(p).convert("L")) for p in (path, draw(tmp_path, curves[:1], "c.png")))
    assert one.std() > 0
    assert one.shape[0] > two.shape[0]  # a line of the legend per curve


def test_bins_of_few_pixels_are_not_drawn(tmp_path):
    few = curve("a", [0.1, 1.0], [1000, FEWEST - 1])
    path = draw(tmp_path, [few])
    assert path.read_bytes() == draw(tmp_path, [curve("a", [0.1], [1000])], "b.png").read_bytes()


def test_many_curves_have_different_colours_or_lines(tmp_path):
    assert draw(tmp_path, [curve(str(number), [0.1, 0.5]) for number in range(9)]).stat().st_size > 1000


def test_no_curve_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="got no curve to draw"):
        draw(tmp_path, [])
