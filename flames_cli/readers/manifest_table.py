"""The table of a manifest: a CSV file becomes validated rows, or an error that names rows and faults."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.readers.manifest_names import NAMED, name_faults, rounded_ids

REQUIRED = ("image", "mask", "patient_id", "modality", "organ")
OPTIONAL = ("site", "split")
"""Columns that are either absent or filled in every row."""
PER_ROW = ("frame",)
"""Columns that may be absent, or empty in some rows."""

SPLITS = {"train": "client_train", "val": "client_val", "test": "client_test", "server": "server_test"}
"""Values of `split`, and the one of core.splits.SETS that each means."""

MODALITIES = {
    **dict.fromkeys(("mr", "mri"), "MRI"),
    "ct": "CT",
    **dict.fromkeys(("us", "ultrasound"), "US"),
    "endoscopy": "Endoscopy",
}
"""Spellings, in lower case, of the modalities that FLAMES knows; other names stay unchanged."""

NO_MASK = "none"
"""Word in the column `mask` for an image without a lesion, which has no mask file."""

LISTED = 5
"""Number of faults that a message names; further ones are only counted."""

LONGEST = {"image": 1024, "mask": 65_536}
"""Largest number of characters in a cell, by column; LONGEST_OTHER for all other columns."""
LONGEST_OTHER = 128

_MODALITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its masks, as its row describes it."""

    number: int
    """Row number in a spreadsheet, where the column names are row 1."""
    image: str
    masks: tuple[str, ...]
    """Empty if the cell of the mask is the word of NO_MASK: the image has no lesion."""
    patient: str
    modality: str
    organ: str
    """Name in lower case."""
    site: str
    fixed_set: str
    """Name of the assigned set, one of core.splits.SETS, or empty."""
    frame: int = 0
    """Number of the frame of a DICOM clip, from 1; 0: the cell is empty."""


def read_table(path: Path) -> list[Row]:
    """Return the rows of a manifest, except empty ones.

    The file is UTF-8, with or without a byte order mark. Columns are in any order, separated by commas, or
    (as Excel writes them in many countries) by semicolons or tabs. Modalities become those of MODALITIES (mr,
    MR and mri are MRI); organs become lower case.

    Raises:
        FlamesError: the file is not such a table, or rows have faults; the message names the first LISTED.
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
    require_no_faults(path, problems or _faults_together(rows))
    return rows


def require_no_faults(path: Path, problems: Sequence[str]) -> None:
    """Raise a FlamesError that names the first LISTED of `problems`, if there are any."""
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
        raise FlamesError(f"{path} contains zero bytes, so it is UTF-16 or not text; {save}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise FlamesError(f"{path} is not UTF-8 (row {row}), perhaps Latin-1; {save}") from error


def _read_cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield row numbers, from 1, and stripped cells.

    The delimiter is the one of _DELIMITERS that is most frequent in the first line.
    """
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    number = 0
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), start=1
        ):
            yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FlamesError(f"{path}: row {number + 1} is not CSV ({error}); check its quotes") from error


def _check_names(path: Path, names: Sequence[str]) -> None:
    known = (*REQUIRED, *OPTIONAL, *PER_ROW)
    missing = [name for name in REQUIRED if name not in names]
    problems = [f"no column {', '.join(missing)}"] if missing else []
    problems += [f"unknown column {name[:40]!r}" for name in names if name not in known]
    problems += [f"column {name} exists twice" for name in known if names.count(name) > 1]
    if problems:
        problems[0] += f" (expected {', '.join(REQUIRED)}, and if known site, split and frame)"
    require_no_faults(path, problems)


def _faults(names: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Return the faults of one row."""
    if len(cells) != len(names):
        return [f"it has {len(cells)} cells, expected {len(names)}, as many as columns"]
    row = dict(zip(names, cells, strict=True))
    faults = [f"{name} is empty" for name in REQUIRED if not row[name].strip("; ")]
    faults += name_faults(row)
    faults += [
        f"{name} contains a line break or control character"
        for name in row
        if name not in NAMED and _CONTROL.search(row[name])
    ]
    for name, cell in row.items():
        if len(cell) > (longest := LONGEST.get(name, LONGEST_OTHER)):
            faults.append(f"{name} has {len(cell)} characters, expected at most {longest}")
    if row["modality"] and not _MODALITY.fullmatch(row["modality"]):
        faults.append(
            f"modality {row['modality'][:40]!r}, expected letters, digits, spaces, - and _ (up to 32)"
        )
    if len(masks := _listed(row["mask"].lower())) > 1 and NO_MASK in masks:
        faults.append("mask is the word none and a file, expected none alone or only files")
    if row.get("split") and row["split"].lower() not in SPLITS:
        faults.append(f"split {row['split'][:40]!r}, expected {', '.join(SPLITS)}")
    frame = row.get("frame", "")
    if frame and not (frame.isascii() and frame.isdecimal() and int(frame) > 0):
        faults.append(f"frame {frame[:40]!r}, expected a whole number from 1, or an empty cell")
    return faults


def _row(number: int, row: dict[str, str]) -> Row:
    modality = " ".join(row["modality"].split())
    return Row(
        number=number,
        image=row["image"],
        masks=() if row["mask"].lower() == NO_MASK else _listed(row["mask"]),
        patient=_one_form(row["patient_id"]),
        modality=MODALITIES.get(modality.lower(), modality),
        organ=_one_form(" ".join(row["organ"].lower().split())),
        site=_one_form(row.get("site", "")),
        fixed_set=SPLITS.get(row.get("split", "").lower(), ""),
        frame=int(row.get("frame") or 0),
    )


def _listed(cell: str) -> tuple[str, ...]:
    """Return the entries of a cell, which are separated by semicolons."""
    return tuple(entry.strip() for entry in cell.split(";") if entry.strip())


def _one_form(text: str) -> str:
    """Normalise a name, so that é as one character equals é as two. Paths are not normalised."""
    return unicodedata.normalize("NFC", text)


def _faults_together(rows: Sequence[Row]) -> list[str]:
    """Return the faults of several rows together: a partly filled column, a patient in two sets."""
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
    if fault := rounded_ids({patient: row.number for patient, row in first.items()}):
        problems.append(fault)
    return problems
