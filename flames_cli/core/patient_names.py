"""Spellings of patients' ids: one normal form, in which two spellings of one id are equal.

The form is for comparison only: no file stores it, and pseudonyms are made from the ids themselves.
"""

import re
import unicodedata
from collections.abc import Iterable

from flames_cli.core.imaging.near_duplicates import cluster_by_marks

_LOOK_ALIKE = {
    "αβεζηικμνορτυχ": "abezhikmnoptyx",  # Greek
    "авекмнорстухѕіјһүԁԛԝ": "abekmhopctyxsijhydqw",  # Cyrillic
    "ı": "i",
}
"""Lower-case letters and the Latin ones for which their capital or small form may be taken.

These are the letters of Greek and Cyrillic that look like a Latin letter in Unicode's list of confusables
(UTS 39, confusables.txt); dotless ı is the small form of I in Turkish.
"""
_TO_LATIN = str.maketrans("".join(_LOOK_ALIKE), "".join(_LOOK_ALIKE.values()))

_MINUS = "\u2212"
_SEPARATORS = ("P", "Z", "Cc")
"""Categories of Unicode of signs and blanks, or their first letters."""
_DOT_ABOVE = "\u0307"
"""Mark that remains of the capital İ in lower case."""

_FRACTION_OF_ZEROS = re.compile(r"([0-9]+)[.,]0+")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_OUTER_SEPARATORS = re.compile(r"(?<![0-9])-+|-+(?![0-9])")

GROUPED_DIGITS = 6
"""Least number of digits that people write in groups, such as `943 476 5919`; `P1-1` and `P11` have fewer."""


def normal_form(patient: str) -> str:
    """Return the form in which two spellings of one id are equal; it may be empty.

    Letters have one case and one width, and look-alike Greek and Cyrillic letters are Latin. Digits are ASCII
    digits without leading zeros. Blanks, punctuation and invisible characters are left out; between digits
    they become one -, since 1-12 and 11-2 are different ids. `4.0` is 4.
    """
    text = patient
    # One step may make room for another: without a blank, a letter and its accent become one character.
    while (simpler := _simplify(text)) != text:
        text = simpler
    return text


def find_alike(patients: Iterable[str]) -> list[list[str]]:
    """Return every group of different ids that may be spellings of one id, in order of appearance.

    Two ids are alike if they have the same normal form, or if one of them is the other with all of its
    digits, at least GROUPED_DIGITS, written as one number.
    """
    forms = {patient: form for patient in dict.fromkeys(patients) if (form := normal_form(patient))}
    known = set(forms.values())
    marks = {patient: {form, *({_join_digits(form, patient)} & known)} for patient, form in forms.items()}
    groups: dict[str, list[str]] = {}
    for patient, first in cluster_by_marks(marks).items():
        groups.setdefault(first, []).append(patient)
    return [group for group in groups.values() if len(group) > 1]


def _simplify(text: str) -> str:
    return _LEADING_ZEROS.sub("", _OUTER_SEPARATORS.sub("", _spell_plainly(text)))


def _spell_plainly(text: str) -> str:
    """Return `text` in ASCII digits and plain small letters, with one - for adjacent separators."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_TO_LATIN)
    digits = "".join(str(unicodedata.decimal(char, char)) for char in folded)
    if whole := _FRACTION_OF_ZEROS.fullmatch(digits.strip()):
        return whole[1]
    plain = "".join("-" if _separates(char) else char for char in digits if not _is_invisible(char))
    return re.sub("-+", "-", plain)


def _separates(char: str) -> bool:
    return char == _MINUS or unicodedata.category(char).startswith(_SEPARATORS)


def _is_invisible(char: str) -> bool:
    return char == _DOT_ABOVE or unicodedata.category(char) == "Cf"


def _join_digits(form: str, patient: str) -> str:
    """Return the normal form of `patient` with all digits in one number; `form` if they are too few."""
    if "-" not in form or sum(char.isdecimal() for char in patient) < GROUPED_DIGITS:
        return form
    return normal_form(_spell_plainly(patient).replace("-", ""))
