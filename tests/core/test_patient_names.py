"""Ids of patients that are spellings of one id."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.patient_names import find_alike, normal_form

SPELT_TWO_WAYS = [
    ("007", "7"),
    ("Pat-02", "pat-02"),
    ("P 03", "P03"),
    ("P_03", "p/3"),
    ("P.03", "P–3"),
    ("4.0", "4"),
    ("4,00", "04"),
    ("P\u200b1", "P1"),
    ("\ufeffP1", "P1"),
    ("P\u00ad1", "P1"),
    ("P\u202e1", "P1"),
    ("P\u00a01", "P1"),
    ("\u0410-1", "A1"),  # Cyrillic А
    ("\u0391-1", "a1"),  # Greek Α
    ("\u0421\u0422\u0415", "CTE"),  # Cyrillic СТЕ
    ("\u03a7\u039d", "xn"),  # Greek ΧΝ
    ("Ｐ１２", "P12"),  # full width
    ("P٠٣", "P3"),  # Arabic-Indic digits
    ("IŞIK", "ışık"),
    ("İ1", "i1"),
    ("e\u0301 1", "\u00e91"),
    ("straße", "STRASSE"),
    ("2024-017", "2024017"),
    ("943 476 5919", "9434765919"),
    ("010190-1234", "0101901234"),
    ("0-1", "00/01"),
    ("'007", "7"),  # an apostrophe of Excel, which marks text
    ("P#1", "P1"),
    ("O\u2019Neil", "O'Neil"),
]

DIFFERENT = [
    ("P1", "P2"),
    ("P1", "P10"),
    ("1-12", "11-2"),
    ("P1-1", "P11"),
    ("4.0", "40"),
    ("4.5", "45"),
    ("7", "70"),
    ("A1", "B1"),
    ("BraTS20_Training_001", "BraTS20_Training_010"),
    ("sequence-1", "sequence-10"),
    ("müller", "muller"),
    ("李1", "王1"),
]


@pytest.mark.parametrize(("one", "other"), SPELT_TWO_WAYS)
def test_two_spellings_of_one_id_are_alike(one, other):
    assert find_alike([one, other]) == [[one, other]]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_ids_are_not_alike(one, other):
    assert find_alike([one, other]) == []


def test_ids_without_any_letter_or_digit_are_not_alike():
    assert find_alike(["-", ".", "", "\u200b"]) == []


def test_groups_list_every_spelling_once_in_order_of_appearance():
    assert find_alike(["P1", "7", "p1", "B", "07", "P1", "P-1"]) == [["P1", "p1", "P-1"], ["7", "07"]]


@given(st.text())
def test_the_normal_form_of_a_normal_form_is_itself(text):
    assert normal_form(normal_form(text)) == normal_form(text)


NUMBERS = st.integers(0, 999)
WORDS = st.text("abckmoptxyz", min_size=1, max_size=4)
CYRILLIC = str.maketrans("ABCEHKMOPTXY", "АВСЕНКМОРТХУ")
GREEK = str.maketrans("ABEZHIKMNOPTYX", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@st.composite
def spellings(draw):
    """Draw (word, number) and two ways to write them as one id."""
    word, number = draw(WORDS), draw(NUMBERS)

    def spell():
        case = draw(st.sampled_from([str.lower, str.upper, str.title]))
        letters = case(word).translate(draw(st.sampled_from([{}, CYRILLIC, GREEK, FULL_WIDTH])))
        between = draw(st.sampled_from(["", " ", "-", "_", ".", "/", "\u00a0", "\u2013", "\u200b", " - "]))
        return letters + between + f"{number:0{draw(st.integers(1, 5))}d}"

    return (word, number), spell(), spell()


@given(spellings())
def test_all_spellings_of_a_word_and_a_number_have_one_normal_form(drawn):
    (word, number), one, other = drawn
    assert normal_form(one) == normal_form(other) == f"{word}{number}"


@given(st.tuples(WORDS, NUMBERS, NUMBERS), st.tuples(WORDS, NUMBERS, NUMBERS))
def test_ids_of_another_word_or_number_have_another_normal_form(one, other):
    forms = [normal_form(f"{word}-{a:03d}-{b:02d}") for word, a, b in (one, other)]
    assert (forms[0] == forms[1]) == (one == other)


def test_every_look_alike_letter_is_a_letter_of_another_script():
    for char in "АВСЕНКМОРТХУЅІЈΑΒΕΖΗΙΚΜΝΟΡΤΥΧ":
        assert normal_form(char) in "abcdefghijklmnopqrstuvwxyz"
        assert unicodedata.name(char).startswith(("GREEK", "CYRILLIC"))
