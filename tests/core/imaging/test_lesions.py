import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flames_cli.core.imaging.lesions import DEFAULT_SMALL, LesionSize, SmallRule, measure_lesions, parse_rule

NUMBERS = st.floats(1, 1e300, exclude_min=True)
RULES = st.builds(SmallRule, st.sampled_from(["area", "box"]), NUMBERS, NUMBERS)


def drawn(*rows):
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def test_lesions_are_counted_and_the_smallest_is_measured():
    mask = drawn("110000", "110001", "000010", "000100", "000000")
    assert measure_lesions(mask) == LesionSize(area_px=7, n=2, smallest_px=3, smallest_box_px=9)


def test_pixels_that_touch_at_a_corner_are_one_lesion():
    mask = drawn("1000", "0100", "0001", "0001")
    assert measure_lesions(mask) == measure_lesions(np.rot90(mask)) == LesionSize(4, 2, 2, 2)


def test_of_lesions_of_one_area_that_of_the_smaller_box_is_measured():
    mask = drawn("100000", "010000", "001001", "000001", "000001")
    for turned in (mask, np.rot90(mask), np.flipud(mask), np.fliplr(mask)):
        assert measure_lesions(turned) == LesionSize(6, 2, 3, 3)


def test_holes_are_in_the_box_and_not_in_the_area():
    assert measure_lesions(drawn("111", "101", "111")) == LesionSize(8, 1, 8, 9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (0, 4)])
def test_an_empty_mask_has_no_lesion(shape):
    assert measure_lesions(np.zeros(shape, np.uint8)) == LesionSize(0, 0, 0, 0)


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_figures_agree_with_each_other_and_with_opencv(mask):
    size = measure_lesions(mask)
    assert size.area_px == mask.sum()
    assert size.n == cv2.connectedComponents(mask, connectivity=8)[0] - 1
    assert size.smallest_px * size.n <= size.area_px
    assert size.smallest_px <= size.smallest_box_px <= mask.size
    assert (size.n > 0) == (size.smallest_px > 0) == mask.any()


@pytest.mark.parametrize(
    ("rule", "size", "small"),
    [
        (SmallRule("area", 100, 100), LesionSize(10, 3, 1, 1), True),
        (SmallRule("area", 100, 100), LesionSize(11, 3, 1, 1), False),
        (SmallRule("box", 100, 100), LesionSize(500, 2, 4, 10), True),
        (SmallRule("box", 100, 100), LesionSize(500, 2, 4, 11), False),
        (SmallRule("area", 100, 2), LesionSize(0, 0, 0, 0), False),
        (SmallRule("box", 100, 2), LesionSize(0, 0, 0, 0), False),
    ],
)
def test_lesions_are_small_from_the_ratio_on(rule, size, small):
    assert rule.is_small(1000, size) is small


def test_an_image_has_small_lesions_large_ones_or_none():
    sizes = [LesionSize(area, bool(area), area, area) for area in (0, 1, 100, 101, 10_000)]
    assert [DEFAULT_SMALL.judge(10_000, size) for size in sizes] == [
        "none",
        "small",
        "small",
        "large",
        "large",
    ]


@pytest.mark.parametrize(
    ("text", "rule", "plain"),
    [
        ("area:1000:1000", SmallRule("area", 1000, 1000), "area:1000:1000"),
        ("area:500", SmallRule("area", 500, 500), "area:500:500"),
        (" box : 1.5e2 : 100.50 ", SmallRule("box", 150, 100.5), "box:150:100.5"),
    ],
)
def test_a_rule_is_read_from_text_and_written_as_text(text, rule, plain):
    assert parse_rule(text) == rule
    assert str(rule) == plain


@given(RULES)
def test_every_rule_reads_back_as_it_was_written(rule):
    assert parse_rule(str(rule)) == rule


def test_rules_are_told_in_words():
    assert parse_rule("area:1000").condition == "image area / lesion area ≥ 1000"
    assert parse_rule("box:150:100").condition == "image area / box of the smallest lesion ≥ 150"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 numbers"),
        ("area", "0 numbers"),
        ("area:1:2:3", "3 numbers"),
        ("blob:100", "measure 'blob', expected area or box"),
        ("AREA:100", "measure 'AREA'"),
        ("area:many", "could not convert"),
        ("area:", "could not convert"),
        ("area:1", "ratio 1, expected a finite number above 1"),
        ("area:-5", "ratio -5"),
        ("area:nan", "ratio nan"),
        ("area:inf", "ratio inf"),
        ("box:150:1", "base 1, expected a finite number above 1"),
        ("box:150:inf", "base inf"),
        ("box\n:5:5:5:5", "4 numbers"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_line(text, why):
    with pytest.raises(ValueError, match="such as area:1000") as no:
        parse_rule(text)
    assert why in str(no.value)
    assert "\n" not in str(no.value)
