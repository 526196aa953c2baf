"""List of known duplicates, in the format of the authors' list for BUSI (`dataset_comment_list.csv`)."""

import csv
from pathlib import Path

from flames_cli.errors import FlamesError

COLUMN = "Filename"


def read_duplicate_list(path: Path) -> list[tuple[str, ...]]:
    """Return tuples of names, without extension, of copies of one image.

    They are read from the column `Filename`: `{a.png&b.png&…}`. Rows without `&` name a single image and are
    ignored.

    Raises:
        FlamesError: the file cannot be read or has no such column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if COLUMN not in (rows.fieldnames or ()):
                raise FlamesError(
                    f"{path}: its columns are {rows.fieldnames}, expected one called '{COLUMN}'"
                )
            cells = [(row[COLUMN] or "").strip().strip("{}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FlamesError(f"{path} cannot be read as a CSV in UTF-8; check --duplicate-list") from error
    copies = [tuple(_stem(name) for name in cell.split("&") if name.strip()) for cell in cells]
    return [names for names in copies if len(names) > 1]


def _stem(name: str) -> str:
    cleaned = name.strip()
    return cleaned[: -len(".png")] if cleaned.lower().endswith(".png") else cleaned
