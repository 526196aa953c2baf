import numpy as np
import pytest

from flames_cli.core.imaging.frames import crop_to_content, replace_frame
from flames_cli.core.rng import derive_rng

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


def content(name="content"):
    return derive_rng(0, "frames", name).integers(120, 200, (SIDE, SIDE)).astype(np.uint8)


FRAMES = {
    "bands": (ROWS >= 10) & (ROWS < 50) & (COLUMNS >= 6),
    "corners": (ROWS + COLUMNS > 20) & (ROWS + (SIDE - 1 - COLUMNS) > 20),
    "circle": (ROWS - 31.5) ** 2 + (COLUMNS - 31.5) ** 2 < 28**2,
}


@pytest.mark.parametrize("shape", FRAMES)
def test_a_frame_gets_the_grey_of_the_content(shape):
    inside = FRAMES[shape]
    framed = np.where(inside, content(), derive_rng(0, "noise").integers(0, 12, (SIDE, SIDE)))
    replaced = replace_frame(framed.astype(np.uint8))
    assert (replaced[inside] == content()[inside]).all()
    assert replaced[~inside].min() > 120
    assert replaced[~inside].max() < 200


def test_dark_areas_inside_the_content_stay():
    picture = content()
    picture[20:40, 20:40] = 3
    assert (replace_frame(picture) == picture).all()


@pytest.mark.parametrize("level", [0, 5, 30])
def test_a_picture_without_content_is_unchanged(level):
    dark = derive_rng(0, "dark").integers(level, level + 3, (SIDE, SIDE)).astype(np.uint8)
    if level < 16:
        assert (replace_frame(dark) == dark).all()
    assert abs(replace_frame(dark).astype(int) - dark).max() <= 3


def test_text_on_the_frame_changes_only_its_surroundings():
    framed = np.where(FRAMES["circle"], content(), 0).astype(np.uint8)
    noted = framed.copy()
    noted[2:5, 1:12] = 230
    changed = replace_frame(noted).astype(int) != replace_frame(framed)
    assert (
        not changed[30:].any()
        or abs(replace_frame(noted).astype(int) - replace_frame(framed))[30:].max() < 20
    )


def test_air_is_cut_off_and_nothing_else():
    padded = np.pad(content(), ((5, 9), (0, 12)))
    assert (crop_to_content(padded) == content()).all()
    assert (crop_to_content(content()) == content()).all()
    air = np.full((20, 30), 3, np.uint8)
    assert (crop_to_content(air) == air).all()


def test_the_sides_are_treated_alike():
    framed = np.where(FRAMES["corners"], content(), 0).astype(np.uint8)
    turned = np.rot90(replace_frame(np.ascontiguousarray(np.rot90(framed))), -1).astype(int)
    assert abs(turned - replace_frame(framed)).max() <= 1
