"""Matching by name of images and masks that are in separate folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

JPEG = re.compile(r"([^.].*)\.jpe?g", re.IGNORECASE | re.DOTALL)
"""Name of a JPEG, except names that start with a dot: macOS adds `._a.jpg` next to `a.jpg`."""

_CENTRE = re.compile(r"data_(C\d+)")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, with its mask if it has one."""

    key: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Centre:
    """Folders of one centre in the layout of PolypGen, which the authors of FedGS use for LiTS too."""

    site: str
    images: Path
    masks: Path


def find_named(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """Return {first group of `pattern`: file} for the files whose full name matches `pattern`.

    If several names have the same key, the first in the alphabet counts.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[1], path)
    return found


def pair_up(images: Mapping[str, Path], masks: Mapping[str, Path], absent: Path) -> list[Pair]:
    """Return every image with its mask, in natural order.

    A mask without an image is listed too, so that it is reported as bad.

    `absent` is the expected path of an image, with `{}` for its key.
    """
    return [
        Pair(
            key=key,
            image=images.get(key) or absent.with_name(absent.name.format(key)),
            masks=(masks[key],) if key in masks else (),
        )
        for key in sorted({*images, *masks}, key=natural_order)
    ]


def find_centres(root: Path) -> list[Centre]:
    """Return the centres (`data_C1/images_C1` with `data_C1/masks_C1`, …) in natural order."""
    found = find_named(root, _CENTRE)
    return [
        Centre(site, found[site] / f"images_{site}", found[site] / f"masks_{site}")
        for site in sorted(found, key=natural_order)
    ]


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """Return a sort key that puts `a2` before `a10`."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name))
