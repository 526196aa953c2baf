"""Images and masks in folders of their own, matched by their names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

JPEG = re.compile(r"([^.].*)\.jpe?g", re.IGNORECASE | re.DOTALL)
"""Any JPEG but what macOS leaves beside it (`._a.jpg`)."""

_CENTRE = re.compile(r"data_(C\d+)")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image with its mask, or without."""

    key: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Centre:
    """One centre's folders in the layout of PolypGen, which the authors of FedGS use for LiTS too."""

    site: str
    images: Path
    masks: Path


def find_named(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """{the first group of `pattern`: file} of the names that it matches whole.

    Where several names have one key, the first in the alphabet counts.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[1], path)
    return found


def pair_up(images: Mapping[str, Path], masks: Mapping[str, Path], absent: Path) -> list[Pair]:
    """Every image, in natural order; a mask without one is listed too, so that it is reported as bad.

    `absent` is where an image would be, with `{}` for its key.
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
    """`data_C1/images_C1`, `data_C1/masks_C1` and so on, in natural order."""
    found = find_named(root, _CENTRE)
    return [
        Centre(site, found[site] / f"images_{site}", found[site] / f"masks_{site}")
        for site in sorted(found, key=natural_order)
    ]


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """A key to sort by that puts `a2` before `a10`."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name))
