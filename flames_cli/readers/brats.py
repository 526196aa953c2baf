"""Task01_BrainTumour of the Medical Segmentation Decathlon (brain MRI, FLAIR channel)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers import msd
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.volumes import VolumeRules

NAME = "brats"
ALIASES: tuple[str, ...] = ("task01_braintumour",)
MODALITY = "MRI"
ORGAN = "brain"
LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"
FOLDER = "Task01_BrainTumour"
LAYOUT = "imagesTr/BRATS_001.nii.gz with labelsTr/BRATS_001.nii.gz"
COMPLETE = 484
SERVER_TEST = 230
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE

FLAIR = 0
LABELS = frozenset({0, 1, 2, 3, 4})
"""The Decathlon's 0..3 and BraTS's own 0..4 (4 is enhancing tumour there): all above 0 is tumour."""
RULES = VolumeRules(MODALITY, slices="near")


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume."""
    return msd.list_sources(root)


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The slices that hold tumour, within `slice_half_width` of their mean index (the authors' code)."""
    return msd.read_source(source, options, RULES, LABELS, LABELS - {0}, FLAIR)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
