"""TCGA-LGG on Kaggle: slices of lower-grade gliomas in MRI, with the abnormality in FLAIR as mask."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.images import read_still
from flames_cli.readers.pairs import find_named, natural_order, pair_up

NAME = "lgg"
ALIASES: tuple[str, ...] = ("tcga-lgg", "lgg-mri-segmentation", "kaggle_3m")
MODALITY = "MRI"
ORGAN = "brain"
LICENCE = "CC BY-NC-SA 4.0 (Buda et al. 2019, on Kaggle)"
FOLDER = "kaggle_3m"
LAYOUT = "TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif with TCGA_CS_4941_19960909_1_mask.tif beside it"
COMPLETE = 3929
SERVER_TEST = 0
STILL = True
KNOWS_PATIENTS = True
COLOUR = True
SMALL = DEFAULT_RULE

FLAIR = 1
"""The channel that the masks were drawn on. Before it: pre-contrast, after it: post-contrast; FLAIR again
where a patient lacks one."""

_FOLDER = re.compile(r"(TCGA_[A-Z0-9]+_[A-Z0-9]+_\d+)")
_IMAGE = re.compile(r"(TCGA_\w+_\d{1,9})\.tiff?", re.IGNORECASE)
_MASK = re.compile(r"(TCGA_\w+_\d{1,9})_mask\.tiff?", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Every slice of every folder; the site is the code of the tissue's source, such as CS or DU."""
    folders = find_named(root, _FOLDER)
    return [source for name in sorted(folders, key=natural_order) for source in _list_folder(folders[name])]


def _list_folder(folder: Path) -> list[Source]:
    _, site, number, _ = folder.name.split("_")
    return [
        Source(
            name=pair.image.name,
            patient=f"TCGA_{site}_{number}",
            image=pair.image,
            masks=pair.masks,
            case=pair.key,
            site=site,
        )
        for pair in pair_up(find_named(folder, _IMAGE), find_named(folder, _MASK), folder / "{}.tif")
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """One case: the slice's FLAIR, or in colour all three channels, with its mask."""
    coloured = replace(options, colour=True)
    (case,) = read_still(source, coloured, f"{source.case}_mask.tif beside it")
    image = case.image if options.colour else np.ascontiguousarray(case.image[..., FLAIR])
    return [replace(case, image=image, slice_index=int(source.case.rsplit("_")[-1]))]


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every case under `root`, one image in memory at a time."""
    return read_all(list_sources(root), read_source)
