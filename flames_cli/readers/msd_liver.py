"""Task03_Liver of the Medical Segmentation Decathlon: LiTS in the Decathlon's layout (abdominal CT, HU)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers import msd
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.volumes import VolumeRules

NAME = "msd-liver"
ALIASES: tuple[str, ...] = ("task03_liver",)
MODALITY = "CT"
ORGAN = "liver"
LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"
FOLDER = "Task03_Liver"
LAYOUT = "imagesTr/liver_0.nii.gz with labelsTr/liver_0.nii.gz"
COMPLETE = 131
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = SmallLesionRule("area", 1000.0, 1000.0)
"""As FedGS has it for LiTS."""

LABELS = frozenset({0, 1, 2})
"""Background, liver, tumour."""
TUMOUR = frozenset({2})
RULES = VolumeRules(MODALITY, window=(-200.0, 200.0))
"""HU, as FedGS has it for LiTS."""


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume."""
    return msd.list_sources(root)


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour; the rest of the liver is background."""
    return msd.read_source(source, options, RULES, LABELS, TUMOUR)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
