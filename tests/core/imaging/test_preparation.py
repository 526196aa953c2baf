import math

import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import MOST_RULES, NOT_KNOWN, Preparation, describe_differences

WIDE, NARROW = IntensityRule((-160.0, 240.0)), IntensityRule((0.0, 100.0))


def test_two_windows_of_one_modality_are_noted_with_the_names_of_their_clients():
    notes = describe_differences(
        [
            ("a", "CT", Preparation((WIDE,))),
            ("b", "CT", Preparation((NARROW,))),
            ("c", "CT", Preparation((WIDE,))),
            ("d", "MRI", Preparation((IntensityRule(),))),
        ]
    )
    assert len(notes) == 1
    assert "a, c: window -160 to 240; b: window 0 to 100" in notes[0]
    assert "--window" in notes[0]
    assert "d" not in notes[0].partition("(")[2].partition(")")[0].replace("window", "")


def test_every_kind_of_rule_is_compared_on_its_own():
    one = Preparation((WIDE,), ("axial",), ("aligned",), ("skip",))
    other = Preparation((WIDE,), ("coronal",), ("paper",), ("keep",))
    notes = describe_differences([("a", "CT", one), ("b", "CT", other)])
    assert ["--plane" in notes[0], "--mask-resize" in notes[1], "--empty" in notes[2]] == [True] * 3
    assert "images without a lesion: a: skip; b: keep" in notes[2]
    assert len(notes) == 3


def test_the_order_of_a_clients_rules_and_rules_that_are_not_known_make_no_difference():
    both = (Preparation((WIDE, NARROW)), Preparation((NARROW, WIDE)), NOT_KNOWN)
    assert describe_differences((str(n), "CT", one) for n, one in enumerate(both)) == []


@pytest.mark.parametrize(
    "rules",
    [
        (IntensityRule((5.0, 5.0)),),
        (IntensityRule((-math.inf, 5.0)),),
        (IntensityRule((0.0, math.nan)),),
        (IntensityRule(percentile=0),),
        (IntensityRule(percentile=math.nan),),
        (WIDE,) * (MOST_RULES + 1),
    ],
)
def test_impossible_rules_are_rejected(rules):
    with pytest.raises(ValueError, match=r"window|percentile|rules"):
        Preparation(rules)
