"""Task07_Pancreas of the Medical Segmentation Decathlon: masses of the pancreas (abdominal CT, HU)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers import msd
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.volumes import VolumeRules

NAME = "msd-pancreas"
ALIASES: tuple[str, ...] = ("task07_pancreas",)
MODALITY = "CT"
ORGAN = "pancreas"
LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"
FOLDER = "Task07_Pancreas"
LAYOUT = "imagesTr/pancreas_001.nii.gz with labelsTr/pancreas_001.nii.gz"
COMPLETE = 281
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE

LABELS = frozenset({0, 1, 2})
"""Background, pancreas, mass (cyst or tumour)."""
TUMOUR = frozenset({2})
RULES = VolumeRules(MODALITY, window=(-100.0, 240.0))
"""HU, as work on the pancreas clips (Zhou et al. 2017, arXiv:1612.08230)."""


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume."""
    return msd.list_sources(root)


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour; the rest of the pancreas is background."""
    return msd.read_source(source, options, RULES, LABELS, TUMOUR)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
