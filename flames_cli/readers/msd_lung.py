"""Task06_Lung of the Medical Segmentation Decathlon: non-small-cell lung cancer (chest CT, HU)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers import msd
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.volumes import VolumeRules

NAME = "msd-lung"
ALIASES: tuple[str, ...] = ("task06_lung",)
MODALITY = "CT"
ORGAN = "lung"
LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"
FOLDER = "Task06_Lung"
LAYOUT = "imagesTr/lung_001.nii.gz with labelsTr/lung_001.nii.gz"
COMPLETE = 63
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE

LABELS = frozenset({0, 1})
"""Background, tumour."""
TUMOUR = frozenset({1})
RULES = VolumeRules(MODALITY, window=(-1000.0, 400.0))
"""HU, from air to bone: the customary clip of chest CT (Zuidhof's tutorial, Data Science Bowl 2017)."""


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume."""
    return msd.list_sources(root)


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour."""
    return msd.read_source(source, options, RULES, LABELS, TUMOUR)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
