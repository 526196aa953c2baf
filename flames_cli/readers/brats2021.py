"""BraTS 2021, one folder a patient: brain MRI, FLAIR (Baid et al. 2021, arXiv:2107.02314)."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers import brats_folders
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all

NAME = "brats2021"
ALIASES: tuple[str, ...] = ()
MODALITY = "MRI"
ORGAN = "brain"
LICENCE = "as its download page states (RSNA-ASNR-MICCAI BraTS 2021)"
FOLDER = "BraTS2021_Training_Data"
LAYOUT = "BraTS2021_00000/BraTS2021_00000_flair.nii.gz with BraTS2021_00000_seg.nii.gz"
COMPLETE = 1251
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE


def list_sources(root: Path) -> list[Source]:
    """Every patient's folder."""
    return brats_folders.list_sources(root, r"BraTS2021_\d+")


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour, within `slice_half_width` of their mean index."""
    return brats_folders.read_source(source, options)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
