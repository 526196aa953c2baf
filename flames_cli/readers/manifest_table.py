"""The table of a manifest: a CSV file becomes validated rows, or an error that names rows and faults."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.core.imaging.label_names import BACKGROUND, split_labels
from flames_cli.errors import FlamesError, list_faults
from flames_cli.readers.manifest_cells import Columns, column_key, read_cells
from flames_cli.readers.manifest_names import NAMED, is_no_file, name_faults, rounded_ids

REQUIRED = ("image", "mask", "patient_id", "modality", "organ")
OPTIONAL = ("site", "split")
"""Columns that are either absent or filled in every row."""
PER_ROW = ("frame", "labels")
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

LONGEST = {"image": 1024, "mask": 65_536}
"""Largest number of characters in a cell, by column; LONGEST_OTHER for all other columns."""
LONGEST_OTHER = 128
LONGEST_KEPT = 40
"""Largest number of characters in the name of a column that the user keeps."""

_MODALITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its masks, as its row describes it."""

    number: int
    """Row number in a spreadsheet, where the column names are row 1."""
    image: str
    masks: tuple[str, ...]
    """Empty if the image has no lesion, or in a list of images without masks."""
    patient: str
    modality: str
    organ: str
    """Name in lower case."""
    site: str
    fixed_set: str
    """Name of the assigned set, one of core.splits.SETS, or empty."""
    frame: int = 0
    """Number of the frame of a DICOM clip, from 1; 0: the cell is empty."""
    labels: tuple[str, ...] = ()
    """Labels of the masks that are tumour; empty: those of the options."""
    extra: tuple[tuple[str, str], ...] = ()
    """Names and cells of the columns that the user keeps."""
    is_healthy: bool = False
    """True if the cell of the mask is the word of NO_MASK: the image has no lesion."""


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest."""

    rows: list[Row]
    unused_columns: tuple[str, ...] = ()


def read_table(path: Path, keep: Sequence[str] = (), needed: Sequence[str] = REQUIRED) -> Table:
    """Return the rows of a manifest, except empty ones, with the cells of the columns `keep`.

    The columns `needed` are filled in every row; others of REQUIRED may be absent or empty, as in a list of
    images to predict on.

    The file is UTF-8, with or without a byte order mark. Columns are in any order, separated by commas, or
    (as Excel writes them in many countries) by semicolons or tabs, or by the sign that a first line `sep=`
    names. Other columns than those of REQUIRED, OPTIONAL, PER_ROW and `keep` are not read. Modalities become
    those of MODALITIES (mr, MR and mri are MRI); organs become lower case.

    Raises:
        FlamesError: the file is not such a table, a column cannot be kept, or rows have faults; the message
            names the first LISTED.
    """
    kept = tuple(dict.fromkeys(map(column_key, keep)))
    _require_keepable(kept)
    free = [name for name in REQUIRED if name not in needed]
    cells, faults = read_cells(path, Columns(tuple(needed), (*free, *OPTIONAL, *PER_ROW), kept))
    require_no_faults(path, faults)
    rows: list[Row] = []
    problems: list[str] = []
    for number, values in cells.lines:
        row = {**dict.fromkeys(REQUIRED, ""), **cells.row_of(values)}
        found = [fault] if (fault := cells.width_fault(values)) else _faults(row, needed)
        problems += [f"row {number}: {fault}" for fault in found]
        if not found:
            rows.append(_row(number, row, kept))
    require_no_faults(path, problems or (_faults_together(rows) if "patient_id" in needed else []))
    return Table(rows, cells.unused)


def _require_keepable(kept: Sequence[str]) -> None:
    """Check that no column to keep is one that is read in any case, such as that of the patients."""
    for name in kept:
        if name in (*REQUIRED, *OPTIONAL, *PER_ROW):
            raise FlamesError(
                f"--keep-columns names {name}, which is read in any case; expected other columns, which name "
                "no patient and no file; leave it out"
            )
        if len(name) > LONGEST_KEPT or not name.isprintable():
            raise FlamesError(
                f"--keep-columns names a column of {len(name)} characters, expected at most {LONGEST_KEPT} "
                "that can be printed; rename it in the manifest"
            )


def require_no_faults(path: Path, problems: Sequence[str]) -> None:
    """Raise a FlamesError that names the first LISTED of `problems`, if there are any."""
    if problems:
        raise FlamesError(f"{path}: {list_faults(problems)}")


def _faults(row: Mapping[str, str], needed: Sequence[str]) -> list[str]:
    """Return the faults of one row, in which the columns `needed` are filled."""
    empty = [name for name in needed if not row[name].strip("; ")]
    faults = [
        "mask is empty, expected files or the word none" if name == "mask" else f"{name} is empty"
        for name in empty
    ]
    faults += name_faults(row)
    if BACKGROUND & {*split_labels(row.get("labels", ""))}:
        faults.append("labels contains 0, the background; expected the labels of tumour")
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
    masks = _listed(row["mask"].lower())
    if len(masks) > 1 and NO_MASK in masks:
        faults.append("mask is the word none and a file, expected none alone or only files")
    if word := next((mask for mask in masks if mask != NO_MASK and is_no_file(mask)), ""):
        faults.append(
            f"mask {word!r} is no file, expected one; write none if the image has no lesion, else its file"
        )
    if row.get("split") and row["split"].lower() not in SPLITS:
        faults.append(f"split {row['split'][:40]!r}, expected {', '.join(SPLITS)}")
    frame = row.get("frame", "")
    if frame and not (frame.isascii() and frame.isdecimal() and int(frame) > 0):
        faults.append(f"frame {frame[:40]!r}, expected a whole number from 1, or an empty cell")
    return faults


def _row(number: int, row: Mapping[str, str], kept: Sequence[str]) -> Row:
    modality = " ".join(row["modality"].split())
    is_healthy = _listed(row["mask"].lower()) == (NO_MASK,)
    return Row(
        number=number,
        image=row["image"],
        masks=() if is_healthy else _listed(row["mask"]),
        patient=_one_form(row["patient_id"]),
        modality=MODALITIES.get(modality.lower(), modality),
        organ=_one_form(" ".join(row["organ"].lower().split())),
        site=_one_form(row.get("site", "")),
        fixed_set=SPLITS.get(row.get("split", "").lower(), ""),
        frame=int(row.get("frame") or 0),
        labels=split_labels(row.get("labels", "")),
        extra=tuple((name, _one_form(row.get(name, ""))) for name in kept),
        is_healthy=is_healthy,
    )


def _listed(cell: str) -> tuple[str, ...]:
    """Return the entries of a cell, which are separated by semicolons."""
    return tuple(entry.strip() for entry in cell.split(";") if entry.strip())


def _one_form(text: str) -> str:
    """Normalise a name, so that é as one character equals é as two. Paths are not normalised."""
    return unicodedata.normalize("NFC", text)


def _faults_together(rows: Sequence[Row]) -> list[str]:
    """Return the faults of several rows together: a partly filled column, a patient in two sets, a kept
    column of ids."""
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
    problems += _kept_ids(rows) if len(first) > 1 else []
    if fault := rounded_ids({patient: row.number for patient, row in first.items()}):
        problems.append(fault)
    return problems


def _kept_ids(rows: Sequence[Row]) -> list[str]:
    """Return the kept columns that repeat the patient_id of every row in which they are filled."""
    cells: dict[str, list[bool]] = {}
    for row in rows:
        for name, cell in row.extra:
            if cell:
                cells.setdefault(name, []).append(cell == row.patient)
    return [
        f"column {name} repeats the patient_id, expected a column that names no patient; leave it out of "
        "--keep-columns"
        for name, equal in cells.items()
        if all(equal)
    ]
