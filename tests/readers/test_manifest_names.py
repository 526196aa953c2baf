"""Names that no patient, site, organ or modality of a manifest may have."""

import pytest

from flames_cli.readers.manifest_names import name_faults, rounded_ids

ROW = {"patient_id": "P1", "site": "A", "organ": "liver", "modality": "CT"}

UNSEEN = [
    ("\u200b", "U+200B ZERO WIDTH SPACE (invisible)"),
    ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE (invisible)"),
    ("\u00ad", "U+00AD SOFT HYPHEN (invisible)"),
    ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE (invisible)"),
    ("\u200e", "U+200E LEFT-TO-RIGHT MARK (invisible)"),
    ("\u00a0", "U+00A0 NO-BREAK SPACE (another blank than the usual one)"),
    ("\u2009", "U+2009 THIN SPACE (another blank than the usual one)"),
    ("\u3000", "U+3000 IDEOGRAPHIC SPACE (another blank than the usual one)"),
    ("\u2028", "U+2028 LINE SEPARATOR (a line break)"),
    ("\x07", "U+0007 without a name (a control character)"),
    ("\x85", "U+0085 without a name (a control character)"),
    ("\ue000", "U+E000 without a name (without a meaning of its own)"),
    ("\u0378", "U+0378 without a name (unassigned)"),
    ("\ufe0f", "U+FE0F VARIATION SELECTOR-16 (invisible)"),
    ("\u3164", "U+3164 HANGUL FILLER (invisible)"),
    ("\u034f", "U+034F COMBINING GRAPHEME JOINER (invisible)"),
]


@pytest.mark.parametrize("column", ROW)
@pytest.mark.parametrize(("char", "called"), UNSEEN)
def test_a_character_that_nobody_sees_is_named_with_its_column(column, char, called):
    (fault,) = name_faults({**ROW, column: f"P{char}1"})
    assert fault.startswith(f"{column} contains {called}, expected visible characters")


@pytest.mark.parametrize(
    "name", ["Zoë", "Zoe\u0308", "李 1", "Müller, 1", "P-1_2.3/4", "Ａ１", "\u0410-1", "'7"]
)
def test_visible_names_of_every_script_are_accepted(name):
    assert list(name_faults({**ROW, "patient_id": name, "site": name})) == []


EMPTY = [
    "nan",
    "NaN",
    "<NA>",
    "NaT",
    "NULL",
    "#N/A",
    "#REF!",
    "#VALUE!",
    "#DIV/0!",
    "#NAME?",
    "#WERT!",
    "#NV",
]


@pytest.mark.parametrize("column", ROW)
@pytest.mark.parametrize("value", EMPTY)
def test_the_word_of_a_program_for_an_empty_cell_is_no_name(column, value):
    (fault,) = name_faults({**ROW, column: value})
    assert fault.startswith(f"{column} '{value}' is an empty cell or an error of another program")


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        *(
            (word, "is no id")
            for word in ("none", "None", "NA", "n/a", "-", "?", "--", "…", "Unknown", "####")
        ),
        *(
            (number, "a spreadsheet rounded")
            for number in ("1.23E+11", "1,23E+11", "1e+20", "1.5E11", "1.2e-05")
        ),
        *((date, "is a date") for date in ("03-Jan", "3-jan-24", "03. Jan", "2024-01-03 00:00:00")),
        ('="007"', "is a formula"),
    ],
)
def test_ids_that_a_spreadsheet_or_a_person_lost_are_no_ids(patient, message):
    (fault,) = name_faults({**ROW, "patient_id": patient})
    assert message in fault


@pytest.mark.parametrize(
    "patient", ["12E7", "E+1", "Jan-03", "Nana", "NA-1", "#12", "4.0", "0", "None-1", "1-2"]
)
def test_ids_that_only_resemble_lost_ones_are_accepted(patient):
    assert list(name_faults({**ROW, "patient_id": patient})) == []


def test_ids_of_more_digits_than_a_spreadsheet_stores_are_reported_if_all_of_them_end_in_zeros():
    assert "row 3: patient_id '110101199003070000'" in rounded_ids(
        {"110101199003070000": 3, "12345678901234500": 4}
    )
    assert not rounded_ids({"110101199003070000": 3, "110101199003071234": 4})
    assert not rounded_ids({"110101199003070000": 3, "7": 4})
