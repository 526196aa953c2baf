import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.label_names import colour_name, colour_number, split_labels


@given(st.integers(0, 2**24 - 1))
def test_colours_have_names(number):
    assert colour_number(colour_name(number)) == number
    assert colour_number(colour_name(number).upper()) == number


@pytest.mark.parametrize("name", ["", "#", "red", "ff0000", "#ff00", "#ff00000", "#gg0000", "#+f0000", "1"])
def test_other_texts_are_no_colours(name):
    assert colour_number(name) is None


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("2", ("2",)),
        ("2,3", ("2", "3")),
        (" 2 ; #ff0000;", ("2", "#ff0000")),
        ("2.0", ("2",)),
        ("", ()),
        ("2,2", ("2",)),
    ],
)
def test_labels_are_separated_by_commas_or_semicolons(text, labels):
    assert split_labels(text) == labels
