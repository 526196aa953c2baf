"""Cells of a manifest: text of a CSV file becomes rows of the columns that are read."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from flames_cli.errors import FlamesError

Line = tuple[int, list[str]]
"""Row number in a spreadsheet, and its cells."""

_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(r'"?sep=(\\t|[^"\w])"?[,;\t]*\r?', re.IGNORECASE)
"""First line with which Excel is given the delimiter; spreadsheets do not show it as a row."""

_NAMELESS = re.compile(r"(unnamed:_\d+(\.\d+)?)?")
"""Names of columns without a name: empty, or as pandas writes them."""
_MORE_MASKS = re.compile(r"masks?_?\d*")
_LIKENESS = 0.8
"""Ratio of difflib above which an unknown name is probably a misspelt one; our own choice."""

_SHOWN = 40
"""Number of characters of a cell that a message quotes."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns that a table may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    kept: tuple[str, ...] = ()
    """Further columns that the user keeps, which the table must have."""

    @property
    def known(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.required, *self.optional, *self.kept)


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of a table, without empty ones."""

    names: tuple[str, ...]
    """Names of all columns, in lower case with _ for blanks; empty for those that are not read."""
    lines: list[Line]
    unused: tuple[str, ...]
    """Names of the columns that are not read, as written."""

    def row_of(self, cells: Sequence[str]) -> dict[str, str]:
        """Return the cells of the columns that are read, by name."""
        return {name: cell for name, cell in zip(self.names, cells, strict=False) if name}

    def width_fault(self, cells: Sequence[str]) -> str:
        """Return what is wrong with the number of cells of a row; empty if nothing is.

        Empty cells may be missing or additional at the end of a row: spreadsheets write rows so.
        """
        needed = max(index for index, name in enumerate(self.names) if name) + 1
        if len(cells) >= needed and not any(cells[len(self.names) :]):
            return ""
        return f"it has {len(cells)} cells, expected {len(self.names)}, as many as columns"


def column_key(name: str) -> str:
    """Return the name of a column in the form in which names are compared: lower case with _ for blanks."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def read_cells(path: Path, columns: Columns) -> tuple[Cells, list[str]]:
    """Return the rows of a CSV file, and the faults of its columns.

    Raises:
        FlamesError: the file cannot be read, or is not CSV in UTF-8.
    """
    lines = [line for line in _read_lines(path, _decode(path)) if any(line[1])]
    _, header = lines[0] if lines else (1, [])
    rows = lines[1:]
    names = [column_key(name) for name in header]
    unused = [shown for name, shown in zip(names, header, strict=True) if _is_unused(name, columns)]
    faults = [*_missing(names, header, columns), *_nameless_faults(names, rows)]
    if not faults:
        faults = [fault for name in names if (fault := _misspelt(name, names, columns))]
    faults += [f"column {name} exists twice" for name in columns.known if names.count(name) > 1]
    read = tuple(name if name in columns.known else "" for name in names)
    return Cells(read, rows, tuple(name[:_SHOWN] for name in unused)), faults


def _is_unused(name: str, columns: Columns) -> bool:
    return name not in columns.known and not _NAMELESS.fullmatch(name)


def _missing(names: Sequence[str], header: Sequence[str], columns: Columns) -> list[str]:
    missing = [name for name in columns.required if name not in names]
    strange = [shown for name, shown in zip(names, header, strict=True) if _is_unused(name, columns)]
    if not missing:
        others = ", ".join(name[:_SHOWN] for name in strange) or "none"
        return [
            f"no column {name} to keep, expected one of its columns that are not read ({others}); correct "
            "--keep-columns"
            for name in columns.kept
            if name not in names
        ]
    return [
        f"no column {', '.join(missing)} (expected {', '.join(columns.required)}, and if known "
        f"{', '.join(columns.optional)})",
        *(f"unknown column {name[:_SHOWN]!r}" for name in strange),
    ]


def _misspelt(name: str, names: Sequence[str], columns: Columns) -> str:
    """Return the fault of a name that is not known but looks as if it should be; empty if it does not."""
    if not _is_unused(name, columns):
        return ""
    if _MORE_MASKS.fullmatch(name):
        return f"unknown column {name!r}; write all masks of an image into the column mask, separated by ;"
    absent = [known for known in columns.optional if known not in names]
    if near := get_close_matches(name, absent, n=1, cutoff=_LIKENESS):
        return f"unknown column {name!r}; rename it to {near[0]}, or to a name that is less like it"
    return ""


def _nameless_faults(names: Sequence[str], rows: Sequence[Line]) -> Iterator[str]:
    """Yield the columns that have content but no name, except an index that counts the rows."""
    for index, name in enumerate(names):
        filled = [(number, cells[index]) for number, cells in rows if len(cells) > index and cells[index]]
        if not _NAMELESS.fullmatch(name) or not filled or _is_index([cell for _, cell in filled], len(rows)):
            continue
        number, cell = filled[0]
        yield (
            f"column {_letters(index)} has content (row {number}: {cell[:_SHOWN]!r}) but no name; "
            "name it, or delete it"
        )


def _is_index(values: Sequence[str], rows: int) -> bool:
    """Return whether the values are whole numbers that increase from row to row, as pandas writes them."""
    if len(values) != rows or not all(value.isascii() and value.isdecimal() for value in values):
        return False
    numbers = [int(value) for value in values]
    return all(before < after for before, after in pairwise(numbers))


def _letters(index: int) -> str:
    """Return the name that a spreadsheet gives the column: A for 0, AA for 26."""
    text = ""
    while index >= 0:
        text = chr(ord("A") + index % 26) + text
        index = index // 26 - 1
    return text


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlamesError(f"{path} cannot be read ({type(error).__name__}); check --raw") from error
    save = "save it as 'CSV UTF-8' (Excel: Save as type; LibreOffice: Character set)"
    if b"\0" in content:
        raise FlamesError(f"{path} contains zero bytes, so it is UTF-16 or not text; {save}")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")  # any system's line ends
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise FlamesError(f"{path} is not UTF-8 (row {row}), perhaps Latin-1; {save}") from error


def _read_lines(path: Path, text: str) -> Iterator[Line]:
    """Yield row numbers, from 1, and stripped cells.

    The delimiter is the one that a first line `sep=` names, which is not a row, else the one of _DELIMITERS
    that is most frequent in the first line.
    """
    delimiter, text = _find_delimiter(path, text)
    number = 0
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), start=1
        ):
            yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FlamesError(f"{path}: row {number + 1} is not CSV ({error}); check its quotes") from error


def _find_delimiter(path: Path, text: str) -> tuple[str, str]:
    """Return the delimiter, and the text without a line that names it."""
    first, _, rest = text.partition("\n")
    if named := _SEPARATOR.fullmatch(first):
        return named[1].replace("\\t", "\t"), rest
    if first.lstrip('" ').lower().startswith("sep="):
        raise FlamesError(
            f"{path}: its first line {first.strip()[:_SHOWN]!r} names no delimiter, expected one sign; "
            "correct or delete that line"
        )
    header = text.lstrip().split("\n", 1)[0]
    return max(_DELIMITERS, key=header.count), text
