"""Kvasir-SEG: polyps in colonoscopy frames."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.images import read_still
from flames_cli.readers.pairs import JPEG, find_named, pair_up

NAME = "kvasir"
ALIASES: tuple[str, ...] = ("kvasir-seg", "kvasir_seg")
MODALITY = "Endoscopy"
ORGAN = "colon"
LICENCE = "research and education only (Jha et al. 2020)"
FOLDER = "Kvasir-SEG"
LAYOUT = "images/X.jpg with masks/X.jpg"
COMPLETE = 1000
SERVER_TEST = 0
STILL = True
KNOWS_PATIENTS = False
COLOUR = True
SMALL = SmallLesionRule("box", 150.0, 100.0)
"""As FedGS has it for PolypGen: endoscopy of the colon too."""


def list_sources(root: Path) -> list[Source]:
    """Every image with the mask of its name. The set does not say which frames are of one patient."""
    images, masks = find_named(root / "images", JPEG), find_named(root / "masks", JPEG)
    return [
        Source(name=pair.image.name, patient=pair.key, image=pair.image, masks=pair.masks)
        for pair in pair_up(images, masks, root / "images" / "{}.jpg")
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """One case: the frame with its mask, which is a JPEG."""
    return read_still(source, options, f"masks/{source.image.name}", allowed=None)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every case under `root`, one image in memory at a time."""
    return read_all(list_sources(root), read_source)
