"""Words for the unit that counts as a patient in a data set: a person, a sequence of frames, or an image."""

from collections.abc import Iterable
from typing import Literal

PatientUnit = Literal["patient", "sequence", "image"]
"""Unit that counts as a patient: a person, a sequence of frames, or every image if neither is named."""

NOUNS = {"patient": "patients", "sequence": "sequences", "image": "images"}
"""Plural by unit, in the order in which several are named."""

UNKNOWN = "patients unknown"
"""Remark on a data set that names no patients: each of its images counts as one."""


def column_title(unit: str) -> str:
    """Return the title of a column that counts `unit`: patients, sequences, or images (patients unknown)."""
    return f"{NOUNS[unit]} ({UNKNOWN})" if unit == "image" else NOUNS[unit]


def count_units(n: int, unit: str, adjective: str = "") -> str:
    """Return `n` with its unit: 1 patient, 3 usable sequences, 12 images (patients unknown)."""
    title = column_title(unit)
    noun = title.replace(NOUNS[unit], unit, 1) if n == 1 else title
    return f"{n:,} {adjective} {noun}" if adjective else f"{n:,} {noun}"


def join_units(units: Iterable[str]) -> str:
    """Return the plural of every unit once: patients, or patients and images; patients if there is none."""
    found = set(units) or {"patient"}
    return " and ".join(noun for unit, noun in NOUNS.items() if unit in found)
