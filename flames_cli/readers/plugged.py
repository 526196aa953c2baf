"""Readers of plug-ins: what their functions return is checked before anything uses it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.patient_units import PatientUnit
from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin, describe_error, one_line
from flames_cli.readers.base import (
    BadCase,
    Listing,
    RawCase,
    Reader,
    ReadOptions,
    SkippedCase,
    Source,
    VolumeRules,
)
from flames_cli.readers.plugged_cases import take_cases
from flames_cli.readers.plugged_sources import source_fault

FIELDS: dict[str, type | UnionType] = {
    "modality": str,
    "organ": str,
    "licence": str,
    "folder": str,
    "layout": str,
    "complete": int,
    "server_test": int,
    "volume_rules": VolumeRules | None,
    "has_colour": bool,
    "small_lesion_rule": SmallLesionRule,
}
"""Types of the fields of a reader; its functions and its unit of patients are checked by themselves."""


def reader_fault(found: object) -> str:
    """Return what is wrong with the object that a plug-in gives as a reader; empty if nothing is."""
    if not isinstance(found, Reader):
        return f"it is {type(found).__name__}, expected a Reader"
    for name, kind in FIELDS.items():
        if not isinstance(value := getattr(found, name), kind):
            return f"{name} is {one_line(repr(value))}, expected {getattr(kind, '__name__', kind)}"
    if bool(found.modality) != bool(found.organ):
        return "it has a modality or an organ alone, expected both, or neither where each source has its own"
    if found.patient_unit not in get_args(PatientUnit):
        expected = ", ".join(get_args(PatientUnit))
        return f"patient_unit is {one_line(repr(found.patient_unit))}, expected one of {expected}"
    functions = {"list_sources": found.list_sources, "read_source": found.read_source}
    if found.list_table is not None:
        functions["list_table"] = found.list_table
    wrong = [name for name, function in functions.items() if not callable(function)]
    return f"{wrong[0]} is no function" if wrong else ""


def adapt_reader(reader: Reader, origin: Origin) -> Reader:
    """Return the reader of a plug-in under the name that the plug-in registered, with checked functions."""
    plain = {
        one.name: getattr(reader, one.name) for one in fields(Reader)
    }  # also of a class made from Reader
    own = {
        "name": origin.name,
        "list_sources": _Checked(origin, "list_sources", _Listing(origin, reader)),
        "read_source": _Checked(origin, "read_source", _Reading(origin, reader)),
    }
    if reader.list_table is not None:
        own["list_table"] = _Checked(origin, "list_table", _Table(origin, reader))
    return Reader(**{**plain, **own})


@dataclass(frozen=True, slots=True)
class _Checked:
    """A function of a reader. Another process finds it by its name, so that it may be any object."""

    origin: Origin
    field: str
    call: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return function_of, (self.origin.name, self.field)


def function_of(name: str, field: str) -> Any:
    """Return a function of the reader called `name`; this process loads the plug-in if it has not yet."""
    from flames_cli.readers import READERS

    return getattr(READERS.look_up(name), field)


@dataclass(frozen=True, slots=True)
class _Listing:
    origin: Origin
    reader: Reader

    def __call__(self, root: Path) -> list[Source]:
        sources: list[Source] = _call_listing(self.origin, root, lambda: list(self.reader.list_sources(root)))
        _require_sources(self.origin, self.reader, sources)
        return sources


@dataclass(frozen=True, slots=True)
class _Table:
    origin: Origin
    reader: Reader

    def __call__(self, table: Path, root: Path | None, keep: Sequence[str]) -> Listing:
        list_table = self.reader.list_table
        found = _call_listing(
            self.origin, table, lambda: list_table(table, root, keep) if list_table else None
        )
        if not isinstance(found, Listing):
            raise FlamesError(
                f"the plug-in {self.origin} lists the data set '{self.origin.name}' as "
                f"{type(found).__name__}, expected a Listing; ask its author"
            )
        _require_sources(self.origin, self.reader, found.sources)
        return found


def _call_listing(origin: Origin, place: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (FlamesError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in that calls sys.exit must not end the command without a word
        raise FlamesError(
            f"the plug-in {origin} cannot list the data set '{origin.name}' in {place} "
            f"({describe_error(error)}); check the folder, or ask the plug-in's author"
        ) from error


def _require_sources(origin: Origin, reader: Reader, sources: Sequence[object]) -> None:
    """Check the sources that a plug-in lists.

    Raises:
        FlamesError: one is wrong, or two have the same name.
    """
    seen: set[str] = set()
    for number, source in enumerate(sources, start=1):
        fault = source_fault(reader, source)
        if not fault and isinstance(source, Source):
            fault = (
                f"its name {one_line(source.name)} is that of an earlier one" if source.name in seen else ""
            )
            seen.add(source.name)
        if fault:
            raise FlamesError(
                f"the plug-in {origin} lists a wrong source {number} of the data set '{origin.name}': "
                f"{fault}; ask its author"
            )


@dataclass(frozen=True, slots=True)
class _Reading:
    origin: Origin
    reader: Reader

    def __call__(self, source: Source, options: ReadOptions) -> list[RawCase]:
        try:
            cases = list(self.reader.read_source(source, options))
        except SkippedCase as error:
            raise SkippedCase(one_line(error)) from error  # one line of a report
        except (FlamesError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise BadCase(
                f"{source.name}: the plug-in {self.origin} cannot read it ({describe_error(error)})"
            ) from error
        return take_cases(cases, source, options, self.reader, self.origin)
