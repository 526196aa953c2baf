"""Read the table of a manifest: valid rows of a CSV, or every error with its row number."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError

REQUIRED = ("image", "mask", "patient_id", "modality", "organ")
OPTIONAL = ("site", "split")
"""Columns that are absent, or filled in every row."""

SPLITS = {"train": "client_train", "val": "client_val", "test": "client_test", "server": "server_test"}
"""Values of `split`, with the set of core.splits.SETS that each means."""

MODALITIES = {
    **dict.fromkeys(("mr", "mri"), "MRI"),
    "ct": "CT",
    **dict.fromkeys(("us", "ultrasound"), "US"),
    "endoscopy": "Endoscopy",
}
"""Spellings of the names that FLAMES knows, in lower case; other names are unchanged."""

LISTED = 5
"""Number of errors that a message names; the rest are counted."""

LONGEST = {"image": 1024, "mask": 65_536}
"""Largest number of characters in a cell, by column; LONGEST_OTHER for the others."""
LONGEST_OTHER = 128

_MODALITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an image with its masks."""

    number: int
    """Number of the row in a spreadsheet: the column names are row 1."""
    image: str
    masks: tuple[str, ...]
    patient: str
    modality: str
    organ: str
    """Organ in lower case."""
    site: str
    fixed_set: str
    """Set of core.splits.SETS, or empty."""


def read_table(path: Path) -> list[Row]:
    """Return the rows of a manifest; empty rows are ignored.

    UTF-8 with or without a byte order mark; columns in any order, parted by commas, or (as Excel does in many
    countries) by semicolons or tabs. Modalities are spelt as in MODALITIES (mr, MR and mri are MRI); organs
    are turned to lower case.

    Raises:
        FlamesError: it cannot be read as such a table, or rows are wrong: LISTED with number and reason.
    """
    lines = _read_cells(path, _decode(path))
    names = [name.strip().lower() for name in next(lines, (1, []))[1]]
    _check_names(path, names)
    rows: list[Row] = []
    problems: list[str] = []
    for number, cells in lines:
        if not any(cells):
            continue
        found = _faults(names, cells)
        problems += [f"row {number}: {fault}" for fault in found]
        if not found:
            rows.append(_row(number, dict(zip(names, cells, strict=True))))
    require_no_problems(path, problems or _faults_together(rows))
    return rows


def require_no_problems(path: Path, problems: Sequence[str]) -> None:
    """Raise FlamesError with the first LISTED problems, if there are any."""
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise FlamesError(f"{path}: " + "; ".join(problems[:LISTED]) + more)


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlamesError(f"{path} cannot be read ({type(error).__name__}); check --raw") from error
    save = "save it as 'CSV UTF-8' (Excel: Save as type; LibreOffice: Character set)"
    if b"\0" in content:
        raise FlamesError(f"{path} holds zero bytes, so it is UTF-16 or no text; {save}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise FlamesError(f"{path} is not UTF-8 (row {row}), perhaps Latin-1; {save}") from error


def _read_cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield row numbers, from 1, and stripped cells; the delimiter is the most frequent of the first line."""
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    number = 0
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), start=1
        ):
            yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FlamesError(f"{path}: row {number + 1} is no CSV ({error}); check its quotes") from error


def _check_names(path: Path, names: Sequence[str]) -> None:
    known = (*REQUIRED, *OPTIONAL)
    missing = [name for name in REQUIRED if name not in names]
    problems = [f"no column {', '.join(missing)}"] if missing else []
    problems += [f"unknown column {name[:40]!r}" for name in names if name not in known]
    problems += [f"column {name} is there twice" for name in known if names.count(name) > 1]
    if problems:
        problems[0] += f" (expected {', '.join(REQUIRED)}, and if known site and split)"
    require_no_problems(path, problems)


def _faults(names: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Return the errors of one row alone."""
    if len(cells) != len(names):
        return [f"it has {len(cells)} cells, the column names {len(names)}"]
    row = dict(zip(names, cells, strict=True))
    faults = [f"{name} is empty" for name in REQUIRED if not row[name].strip("; ")]
    faults += [
        f"{name} holds a line break or control character" for name in row if _CONTROL.search(row[name])
    ]
    for name, cell in row.items():
        if len(cell) > (longest := LONGEST.get(name, LONGEST_OTHER)):
            faults.append(f"{name} has {len(cell)} characters, expected at most {longest}")
    if row["modality"] and not _MODALITY.fullmatch(row["modality"]):
        faults.append(
            f"modality {row['modality'][:40]!r}, expected letters, digits, spaces, - and _ (up to 32)"
        )
    if row.get("split") and row["split"].lower() not in SPLITS:
        faults.append(f"split {row['split'][:40]!r}, expected {', '.join(SPLITS)}")
    return faults


def _row(number: int, row: dict[str, str]) -> Row:
    modality = " ".join(row["modality"].split())
    return Row(
        number=number,
        image=row["image"],
        masks=tuple(mask.strip() for mask in row["mask"].split(";") if mask.strip()),
        patient=_one_form(row["patient_id"]),
        modality=MODALITIES.get(modality.lower(), modality),
        organ=_one_form(" ".join(row["organ"].lower().split())),
        site=_one_form(row.get("site", "")),
        fixed_set=SPLITS.get(row.get("split", "").lower(), ""),
    )


def _one_form(text: str) -> str:
    """Return the normal form, so that é as one or two characters is equal; file names are not changed."""
    return unicodedata.normalize("NFC", text)


def _faults_together(rows: Sequence[Row]) -> list[str]:
    """Return the errors between rows: a column that is partly filled, a patient in two sets."""
    problems = []
    for name, values in (("site", [row.site for row in rows]), ("split", [row.fixed_set for row in rows])):
        if any(values) and not all(values):
            empty = rows[values.index("")].number
            problems.append(f"row {empty}: {name} is empty, but not in every row; fill it in all, or in none")
    first: dict[str, Row] = {}
    for row in rows:
        before = first.setdefault(row.patient, row)
        if row.fixed_set != before.fixed_set:
            problems.append(
                f"row {row.number}: patient {row.patient} is in another split than in row {before.number}"
            )
    return problems
