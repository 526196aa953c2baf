"""Findings that the user accepts with a reason: their ids, and the TOML file that lists them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError
from flames_cli.report.legible import legible
from flames_cli.store.files.parse import parse_toml, read_text

FULL_MASK_CODE = "full-mask"
"""Code of a mask that covers nearly all of its image, in check and in preprocess."""

TABLE = "accept"
KEYS = ("id", "reason")
FORM = '[[accept]] with the texts id = "…" and reason = "…"'


def make_id(code: str, names: Iterable[str] = ()) -> str:
    """Return the id of one place of a finding: `code:name`, `code:name=other`, or `code` without names.

    The order of `names` does not matter. The id is legible, as in the report from which a user copies it.
    """
    return legible(":".join(filter(None, [code, "=".join(sorted(names))])))


def read_accepted(path: Path | None) -> dict[str, str]:
    """Return {id: reason} of the findings that the file accepts; empty without a file.

    Raises:
        FlamesError: the file cannot be read, or is not a list of unique ids that have reasons.
    """
    if path is None:
        return {}
    try:
        content = parse_toml(read_text(path))
    except OSError as error:
        raise FlamesError(f"{path} cannot be read ({error.strerror}); check --accept") from error
    except ValueError as error:
        raise FlamesError(f"{path} cannot be read as TOML: {error}; check --accept") from error
    entries = content.get(TABLE, [])
    if {*content} - {TABLE} or not isinstance(entries, list):
        raise FlamesError(f"{path} contains {', '.join(content)}, expected only {FORM}; check --accept")
    accepted: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        if fault := _fault(entry, accepted):
            raise FlamesError(f"{path}: entry {number} of [[accept]] {fault}; expected {FORM}, each id once")
        accepted[entry["id"]] = entry["reason"].strip()
    return accepted


def _fault(entry: Any, earlier: Mapping[str, str]) -> str:
    """Return the fault of one entry; empty if it has none."""
    if not isinstance(entry, dict):
        return "is not a table"
    if unknown := [key for key in entry if key not in KEYS]:
        return f"has the unknown key {unknown[0]!r}"
    for key in KEYS:
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            return f"has no {key}, or an empty one"
    return f"repeats the id {entry['id']!r}" if entry["id"] in earlier else ""
