"""TCGA-LGG on Kaggle: slices of lower-grade gliomas in MRI; masks mark the abnormality in FLAIR."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still
from flames_cli.readers.pairs import find_named, natural_order, pair_up

FLAIR = 1
"""Channel on which the masks were drawn. Channel 0 is pre-contrast and channel 2 post-contrast; if a patient
has no such image, the channel repeats FLAIR."""

_FOLDER = re.compile(r"(TCGA_[A-Z0-9]+_[A-Z0-9]+_\d+)")
_IMAGE = re.compile(r"(TCGA_\w+_\d{1,9})\.tiff?", re.IGNORECASE)
_MASK = re.compile(r"(TCGA_\w+_\d{1,9})_mask\.tiff?", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Return every slice of every folder; the site is the code of the tissue source, such as CS or DU."""
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
    """Return one case: the slice's FLAIR, or in colour all three channels, with its mask."""
    coloured = replace(options, colour=True)
    (case,) = read_still(source, coloured, f"{source.case}_mask.tif next to it")
    image = case.image if options.colour else np.ascontiguousarray(case.image[..., FLAIR])
    return [replace(case, image=image, slice_index=int(source.case.rsplit("_")[-1]))]


LGG = Reader(
    name="lgg",
    modality="MRI",
    organ="brain",
    licence="CC BY-NC-SA 4.0 (Buda et al. 2019, on Kaggle)",
    folder="kaggle_3m",
    layout="TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif with TCGA_CS_4941_19960909_1_mask.tif",
    list_sources=list_sources,
    read_source=read_source,
    complete=3929,
    has_colour=True,
)
