"""Names of outputs: each input gets its own, which keeps the folders of the inputs."""

import os
from collections.abc import Sequence
from contextlib import suppress
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

    A name is the path relative to its base. If two places of different bases would have one name, all places
    of these bases get more of their paths. Files that differ in their suffix get it (`a_png` and `a_jpg`),
    and names that are still equal get a number.
    """
    bases = [place.base for place in places]
    names = [_name(place, base) for place, base in zip(places, bases, strict=True)]
    if mixed := {bases[index] for indices in _repeated(names) for index in indices}:
        with suppress(ValueError):  # two drives of Windows
            common = Path(os.path.commonpath([*mixed]))
            bases = [common if base in mixed else base for base in bases]
            names = [_name(place, base) for place, base in zip(places, bases, strict=True)]
    for indices in _repeated(names):
        for index in indices:
            names[index] = _name(places[index], bases[index], places[index].suffix.replace(".", "_"))
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 1
        while names[index].casefold() in taken:
            number += 1
            names[index] = f"{name}-{number}"
        taken.add(names[index].casefold())
    return names


def _name(place: Place, base: Path, suffix: str = "") -> str:
    inside = place.path.relative_to(base) if place.path.is_relative_to(base) else Path(place.path.name)
    name = inside.as_posix() if inside.parts else place.path.name or "root"
    return name + suffix + (f"/{place.part}" if place.part else "")


def _repeated(names: Sequence[str]) -> list[list[int]]:
    """Return the indices of the names that occur more than once, together for each name."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        indices.setdefault(name.casefold(), []).append(index)
    return [several for several in indices.values() if len(several) > 1]
