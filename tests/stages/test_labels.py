import pytest

from flames_cli.stages.labels import absent_labels, differing_labels


def test_chosen_labels_that_no_mask_has_are_named_once_in_their_order():
    assert absent_labels([("3", "2"), ("9",), ("3",), ()], {"2"}) == ["3", "9"]
    assert absent_labels([("2",)], {"2", "1"}) == []


@pytest.mark.parametrize(
    ("only", "differing"),
    [
        (set(), []),
        ({"7"}, []),
        ({"1", "255", "65535", "#ffffff"}, []),
        ({"2", "1"}, ["1", "2"]),
        ({"10", "255", "9"}, ["9", "10", "255"]),
    ],
)
def test_masks_of_one_label_each_agree_or_have_full_scale(only, differing):
    assert differing_labels(only) == differing
