"""Plug-ins of installed packages: their entry points. None is imported here."""

import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from flames_cli.plugins.origins import (
    GROUPS,
    NAME,
    PREFIX,
    Origin,
    Problem,
    describe_error,
    normal_name,
    one_line,
)

if TYPE_CHECKING:
    from importlib.metadata import Distribution

Found = tuple[tuple[Origin, ...], tuple[Problem, ...]]

NO_VERSION = "unknown"
"""Version of a package whose metadata states none."""


def installed_plugins() -> Found:
    """Return the plug-ins of all installed packages, and the faults of their entry points.

    They are read once for each search path of this process.
    """
    return _read(tuple(sys.path))


@lru_cache(maxsize=4)
def _read(path: tuple[str, ...]) -> Found:
    # Imported here: it takes a third of the time of `flames --help`.
    from importlib.metadata import distributions

    found: list[Origin] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for listed in distributions(path=[*path]):
        if not _offers(listed):
            continue
        name = normal_name(_name_of(listed))
        if name not in seen:
            seen.add(name)
            # Python imports the first of several copies on the path, so that its metadata count.
            for one in _read_package(_first_copy(listed, path)):
                (found if isinstance(one, Origin) else problems).append(one)  # type: ignore[arg-type]
    return tuple(found), tuple(problems)


def _offers(package: "Distribution") -> bool:
    try:
        return PREFIX in (package.read_text("entry_points.txt") or "")
    except Exception:  # a package whose metadata cannot be read offers nothing
        return False


def _first_copy(package: "Distribution", path: tuple[str, ...]) -> "Distribution":
    from importlib.metadata import Distribution

    try:
        return next(iter(Distribution.discover(name=_name_of(package), path=[*path])), package)
    except Exception:
        return package


def _read_package(package: "Distribution") -> Iterator[Origin | Problem]:
    name, version = _name_of(package), _version_of(package)
    try:
        entries = [one for one in package.entry_points if one.group.startswith(PREFIX)]
    except Exception as error:
        yield Problem("", "", name, version, f"its entry points cannot be read ({describe_error(error)})")
        return
    for entry in entries:
        group, called = entry.group.removeprefix(PREFIX), one_line(entry.name)
        if group not in GROUPS:
            yield Problem("", called, name, version, f"{one_line(entry.group)} is no group of plug-ins")
        elif not NAME.fullmatch(entry.name):
            yield Problem(group, called, name, version, bad_name(called))
        else:
            yield Origin(group, entry.name, name, version, one_line(entry.value))


def bad_name(name: str) -> str:
    """Return what is wrong with a name that does not match `origins.NAME`."""
    return f"'{name}' is no name of a plug-in: use at most 40 small letters, digits and -"


def _name_of(package: "Distribution") -> str:
    try:
        stated = package.metadata["Name"]
    except Exception:
        stated = None
    folder = getattr(package, "_path", None)
    name = stated or (folder.name.rpartition(".")[0].partition("-")[0] if folder else "")
    return one_line(name).replace(" ", "-") or "unnamed"


def _version_of(package: "Distribution") -> str:
    try:
        stated = package.metadata["Version"]
    except Exception:
        stated = None
    return one_line(stated or NO_VERSION).replace(" ", "-")
