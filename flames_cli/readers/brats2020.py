"""BraTS 2020, one folder a patient: brain MRI, FLAIR (Menze et al. 2015, Bakas et al. 2017)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers import brats_folders
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all

NAME = "brats2020"
ALIASES: tuple[str, ...] = ()
MODALITY = "MRI"
ORGAN = "brain"
LICENCE = "for research, as its download page states (med.upenn.edu/cbica/brats2020)"
FOLDER = "MICCAI_BraTS2020_TrainingData"
LAYOUT = "BraTS20_Training_001/BraTS20_Training_001_flair.nii with BraTS20_Training_001_seg.nii"
COMPLETE = 369
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE


def list_sources(root: Path) -> list[Source]:
    """Every patient's folder."""
    return brats_folders.list_sources(root, r"BraTS20_Training_\d+")


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour, within `slice_half_width` of their mean index."""
    return brats_folders.read_source(source, options)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
