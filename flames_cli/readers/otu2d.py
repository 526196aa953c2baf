"""OTU_2d of MMOTU: ovarian tumours in ultrasound."""

import re
from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.images import read_still

NAME = "otu2d"
ALIASES: tuple[str, ...] = ("otu_2d", "mmotu")
MODALITY = "US"
ORGAN = "ovary"
LICENCE = "as its download page states (MMOTU, Zhao et al. 2022)"
FOLDER = "OTU_2d"
LAYOUT = "images/1.JPG with annotations/1_binary.PNG"
COMPLETE = 1469
SERVER_TEST = 230
STILL = True
KNOWS_PATIENTS = False
COLOUR = False
SMALL = DEFAULT_RULE

_IMAGE = re.compile(r"^(\d+)\.jpe?g$", re.IGNORECASE)
_MASK = re.compile(r"^(\d+)_binary\.png$", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Every numbered image with its `N_binary.PNG`; colour and doubled annotations are junk.

    A mask without its image is listed too, so that it is reported as bad.
    """
    images = _numbered(root / "images", _IMAGE)
    masks = _numbered(root / "annotations", _MASK)
    return [
        Source(
            name=images[number].name if number in images else f"{number}.JPG",
            patient=str(number),
            image=images.get(number, root / "images" / f"{number}.JPG"),
            masks=(masks[number],) if number in masks else (),
        )
        for number in sorted(images | masks)
    ]


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.glob("*") if (match := pattern.match(path.name))}


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """One case: the grey image with its binary mask."""
    return read_still(source, options, f"annotations/{source.patient}_binary.PNG")


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every case under `root`, one image in memory at a time."""
    return read_all(list_sources(root), read_source)
