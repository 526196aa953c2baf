"""Names in a manifest (patients, sites, organs, modalities): characters and values that no name may have."""

import re
import unicodedata
from collections.abc import Iterator, Mapping

NAMED = ("patient_id", "site", "organ", "modality")
"""Columns of names. Two names that look equal must be equal."""

_UNSEEN_CATEGORIES = {
    "Cf": "invisible",
    "Cc": "a control character",
    "Cn": "unassigned",
    "Co": "without a meaning of its own",
    "Zl": "a line break",
    "Zp": "a line break",
    "Zs": "another blank than the usual one",
}
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that show nothing although their category says letter, mark or symbol (Unicode's property
Default_Ignorable_Code_Point, and the empty Braille pattern)."""

_EMPTY = {"nan", "-nan", "nat", "<na>", "null"}
"""Values, in lower case, that programs write for an empty cell."""

_NO_ID = {
    "none",
    "nil",
    "na",
    "n/a",
    "n.a.",
    "n.a",
    "n/k",
    "unknown",
    "missing",
    "anonymous",
    "anonymized",
    "anonymised",
}
"""Further values, in lower case, that people write where an id is missing."""

_NO_FILE = {"-", "no", "normal", "healthy", "empty", "no lesion", "no mask"}
"""Further values, in lower case, that people write in place of a mask file."""

_SPREADSHEET_ERROR = re.compile(r"#.*[!?]|#(n/a|n/d|nv|nd|na|n/a n/a)", re.IGNORECASE)
_ROUNDED = re.compile(r"[0-9]+([.,][0-9]+)?e\+[0-9]+|[0-9]+[.,][0-9]+e-?[0-9]+", re.IGNORECASE)
_DATE = re.compile(
    r"[0-9]{1,2}[-.] ?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-[0-9]{2,4})?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[ t]00:00(:00)?",
    re.IGNORECASE,
)
_AS_TEXT = "format the column as text in the original table and export it again"

EXACT_DIGITS = 15
"""Number of digits that a spreadsheet stores exactly; it replaces all further ones by zeros."""


def name_faults(row: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of the names of one row."""
    for column in (name for name in NAMED if name in row):
        if unseen := next((char for char in row[column] if _why_unseen(char)), ""):
            called = f"U+{ord(unseen):04X} {unicodedata.name(unseen, 'without a name')}"
            yield (
                f"{column} contains {called} ({_why_unseen(unseen)}), expected visible characters and plain "
                "blanks; delete it, or type the cell again"
            )
        if row[column].lower() in _EMPTY or _SPREADSHEET_ERROR.fullmatch(row[column]):
            yield (
                f"{column} {row[column][:40]!r} is an empty cell or an error of another program, expected a "
                "name; fill it in, or leave the row out"
            )
    if fault := _id_fault(row["patient_id"]):
        yield fault


def is_no_file(cell: str) -> bool:
    """Return whether a cell has a word in place of the name of a file."""
    return cell.lower() in _EMPTY | _NO_ID | _NO_FILE or bool(_SPREADSHEET_ERROR.fullmatch(cell))


def _why_unseen(char: str) -> str:
    """Return why a reader does not see `char`, or takes it for another one; empty for visible characters."""
    if char == " ":
        return ""
    return "invisible" if _UNSEEN.match(char) else _UNSEEN_CATEGORIES.get(unicodedata.category(char), "")


def _id_fault(patient: str) -> str:
    """Return what is wrong with an id that a spreadsheet or a program wrote; empty if nothing is."""
    shown = f"patient_id {patient[:40]!r}"
    if patient and (patient.lower() in _NO_ID or not any(char.isalnum() for char in patient)):
        return f"{shown} is no id, expected one for each person; fill it in, or leave the row out"
    if patient.startswith("="):
        return f"{shown} is a formula of a spreadsheet, expected an id; {_AS_TEXT}"
    if _ROUNDED.fullmatch(patient):
        return (
            f"{shown} is a number that a spreadsheet rounded, so several people may share it, expected all "
            f"digits; {_AS_TEXT}"
        )
    if _DATE.fullmatch(patient):
        return f"{shown} is a date, which a spreadsheet makes of ids such as 3-1, expected an id; {_AS_TEXT}"
    return ""


def rounded_ids(patients: Mapping[str, int]) -> str:
    """Return the fault of ids of more than EXACT_DIGITS digits that all end in zeros; empty if there is none.

    Args:
        patients: row number of each id.
    """
    long = [one for one in patients if one.isdecimal() and len(one) > EXACT_DIGITS]
    if len(long) < 2 or any(set(one[EXACT_DIGITS:]) != {"0"} for one in long):
        return ""
    return (
        f"row {patients[long[0]]}: patient_id {long[0][:40]!r}, and every other id of more than "
        f"{EXACT_DIGITS} digits, ends in zeros, so a spreadsheet rounded them; {_AS_TEXT}"
    )
