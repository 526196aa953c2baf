import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.lesions import LesionSize
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule, parse_small_lesion_rule

NUMBERS = st.floats(1, 1e300, exclude_min=True)
RULES = st.builds(SmallLesionRule, st.sampled_from(["area", "box"]), NUMBERS, NUMBERS)


@pytest.mark.parametrize(
    ("rule", "size", "small"),
    [
        (SmallLesionRule("area", 100, 100), LesionSize(10, 3, 1, 1), True),
        (SmallLesionRule("area", 100, 100), LesionSize(11, 3, 1, 1), False),
        (SmallLesionRule("box", 100, 100), LesionSize(500, 2, 4, 10), True),
        (SmallLesionRule("box", 100, 100), LesionSize(500, 2, 4, 11), False),
        (SmallLesionRule("area", 100, 2), LesionSize(0, 0, 0, 0), False),
        (SmallLesionRule("box", 100, 2), LesionSize(0, 0, 0, 0), False),
    ],
)
def test_lesions_are_small_from_the_ratio_on(rule, size, small):
    assert rule.is_small(1000, size) is small


def test_an_image_has_small_lesions_large_ones_or_none():
    sizes = [LesionSize(area, bool(area), area, area) for area in (0, 1, 100, 101, 10_000)]
    assert [DEFAULT_RULE.judge(10_000, size) for size in sizes] == [
        "none",
        "small",
        "small",
        "large",
        "large",
    ]


@pytest.mark.parametrize(
    ("text", "rule", "plain"),
    [
        ("area:1000:1000", SmallLesionRule("area", 1000, 1000), "area:1000:1000"),
        ("area:500", SmallLesionRule("area", 500, 500), "area:500:500"),
        (" box : 1.5e2 : 100.50 ", SmallLesionRule("box", 150, 100.5), "box:150:100.5"),
    ],
)
def test_a_rule_is_read_from_text_and_written_as_text(text, rule, plain):
    assert parse_small_lesion_rule(text) == rule
    assert str(rule) == plain


@given(RULES)
def test_every_rule_reads_back_as_it_was_written(rule):
    assert parse_small_lesion_rule(str(rule)) == rule


def test_rules_are_described_in_words():
    assert parse_small_lesion_rule("area:1000").condition == "image area / lesion area ≥ 1000"
    assert parse_small_lesion_rule("box:150:100").condition == "image area / box of the smallest lesion ≥ 150"


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
def test_text_that_is_not_a_rule_is_rejected_in_one_line(text, why):
    with pytest.raises(ValueError, match="such as area:1000") as no:
        parse_small_lesion_rule(text)
    assert why in str(no.value)
    assert "\n" not in str(no.value)
