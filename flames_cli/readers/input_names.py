"""Names of outputs: each input gets its own, which keeps the folders of the inputs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Place of an input on the disk."""

    path: Path
    """Absolute path without suffix: that of a file, or the folder of a series."""
    base: Path
    """Absolute folder to which the name is relative, unless several inputs would have the same name."""
    suffix: str = ""
    """Suffix of the file, such as .png."""
    part: str = ""
    """Part of the file that the input is, such as frame3; empty: all of it."""


def make_names(places: Sequence[Place]) -> list[str]:
    """Return a name for each place: relative, with / between folders; no two are equal, even without case.

    A name is the path relative to its base. Places whose names would be equal get more of their path, then
    the suffix of the file (`a_png` and `a_jpg`), then a number.
    """
    names = [_relative(place, place.base) for place in places]
    for indices in _repeated(names):
        common = Path(os.path.commonpath([places[index].path.parent for index in indices]))
        for index in indices:
            names[index] = _relative(places[index], common)
    for indices in _repeated(names):
        for index in indices:
            names[index] += places[index].suffix.replace(".", "_")
    names = [
        f"{name}/{place.part}" if place.part else name for name, place in zip(names, places, strict=True)
    ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 1
        while names[index].casefold() in taken:
            number += 1
            names[index] = f"{name}-{number}"
        taken.add(names[index].casefold())
    return names


def _relative(place: Place, base: Path) -> str:
    inside = place.path.relative_to(base) if place.path.is_relative_to(base) else Path(place.path.name)
    return inside.as_posix() if inside.parts else place.path.name or "root"


def _repeated(names: Sequence[str]) -> list[list[int]]:
    """Return the indices of the names that occur more than once, together for each name."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        indices.setdefault(name.casefold(), []).append(index)
    return [several for several in indices.values() if len(several) > 1]
