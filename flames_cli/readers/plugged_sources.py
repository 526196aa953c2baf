"""Check of the sources that the reader of a plug-in lists."""

from pathlib import Path

from flames_cli.core.splits import SETS
from flames_cli.plugins import one_line
from flames_cli.readers.base import Reader, Source

TEXTS = ("name", "patient", "case", "stratum", "site", "modality", "organ", "fixed_set")
"""Fields of a source that are texts."""


def source_fault(reader: Reader, source: object) -> str:
    """Return what is wrong with a source; empty if nothing is."""
    if not isinstance(source, Source):
        return f"it is {type(source).__name__}, expected a Source"
    for name in TEXTS:
        value = getattr(source, name)
        if not isinstance(value, str) or value != value.strip() or not value.isprintable():
            return f"{name} is {one_line(repr(value))}, expected a text of one line without spaces around it"
    for name in ("name", "patient"):
        if not getattr(source, name):
            return f"its {name} is empty"
    if not reader.modality and not (source.modality and source.organ):
        return "it has no modality and organ of its own, and the reader has none"
    if source.fixed_set and source.fixed_set not in SETS:
        return f"fixed_set is '{source.fixed_set}', expected one of {', '.join(SETS)}"
    return _file_fault(source) or _number_fault(source)


def _file_fault(source: Source) -> str:
    if not isinstance(source.image, Path):
        return f"image is {one_line(repr(source.image))}, expected a Path"
    for name in ("masks", "files"):
        value = getattr(source, name)
        if not isinstance(value, tuple) or not all(isinstance(one, Path) for one in value):
            return f"{name} is {one_line(repr(value))}, expected a tuple of Path"
    return ""


def _number_fault(source: Source) -> str:
    if not isinstance(source.frame, int) or source.frame < 0:
        return f"frame is {one_line(repr(source.frame))}, expected 0 or more"
    if not isinstance(source.is_healthy, bool):
        return f"is_healthy is {one_line(repr(source.is_healthy))}, expected True or False"
    place = source.place_in_series
    if place is not None and [type(one) for one in place] != [str, int]:
        return f"place_in_series is {one_line(repr(place))}, expected a text and an integer"
    for name, form in (("labels", str), ("extra", tuple)):
        value = getattr(source, name)
        if not isinstance(value, tuple) or not all(isinstance(one, form) for one in value):
            return f"{name} is {one_line(repr(value))}, expected a tuple"
    return ""
