"""BraTS 2020 and 2021 as the challenges publish them: brain MRI (FLAIR), one folder per patient.

2020: Menze et al. 2015, Bakas et al. 2017. 2021: Baid et al. 2021, arXiv:2107.02314.
"""

import re
from functools import partial
from pathlib import Path

from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source, VolumeRules
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import read_slices, require_same_grid

LABELS = frozenset({0, 1, 2, 3, 4})
"""Background, core, edema, none, enhancing tumour (3 in copies that renumber it): all above 0 are tumour."""
RULES = VolumeRules("MRI", slices="near")
"""Rules of Task01 of the Decathlon, which is BraTS of 2016 and 2017."""

SUFFIXES = ("nii", "nii.gz")
MISNAMED = ("*_Segm.nii", "*_Segm.nii.gz")
"""Patterns of segmentations with a wrong name: BraTS20_Training_355 has W39_1998.09.19_Segm.nii."""


def list_sources(pattern: str, root: Path) -> list[Source]:
    """Return the FLAIR image and segmentation of every patient folder whose full name matches `pattern`.

    TCIA sorts BraTS 2021 into one folder per collection (TCGA-GBM, UPENN-GBM, …). Where there are several,
    these are the sites.
    """
    found = [path for depth in ("*", "*/*") for path in root.glob(depth) if re.fullmatch(pattern, path.name)]
    # A link may lead to a folder that is listed already; the shorter path counts.
    distinct = {path.resolve(): path for path in reversed(found) if path.is_dir()}
    folders = sorted(distinct.values(), key=lambda folder: folder.name)
    collections = {folder.parent for folder in folders}
    return [
        Source(
            name=folder.name,
            patient=folder.name,
            image=_file(folder, "flair"),
            masks=(_file(folder, "seg", MISNAMED),),
            site=folder.parent.name if len(collections) > 1 else "",
        )
        for folder in folders
    ]


def _file(folder: Path, kind: str, otherwise: tuple[str, ...] = ()) -> Path:
    """Return the existing file; if there is none, the expected path, so that it is reported as missing."""
    expected = [folder / f"{folder.name}_{kind}.{suffix}" for suffix in SUFFIXES]
    others = sorted(path for pattern in otherwise for path in folder.glob(pattern))
    visible = [path for path in (*expected, *others) if path.is_file() and not path.name.startswith(".")]
    return visible[0] if visible else expected[-1]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the axial FLAIR slices with tumour, within `slice_half_width` of their mean index.

    Raises:
        BadCase: image or segmentation cannot be trusted.
        SkippedCase: there is no tumour, and such volumes are not kept.
    """
    image, mask = read_volume(source.image), read_labels(source.masks[0], LABELS)
    require_same_grid(source, image, mask)
    return read_slices(source, image, mask.voxels > 0, options, RULES)


BRATS2020 = Reader(
    name="brats2020",
    modality="MRI",
    organ="brain",
    licence="for research, as its download page states (med.upenn.edu/cbica/brats2020)",
    folder="MICCAI_BraTS2020_TrainingData",
    layout="BraTS20_Training_001/BraTS20_Training_001_flair.nii with BraTS20_Training_001_seg.nii",
    list_sources=partial(list_sources, r"BraTS20_Training_\d+"),
    read_source=read_source,
    complete=369,
    volume_rules=RULES,
)

BRATS2021 = Reader(
    name="brats2021",
    modality="MRI",
    organ="brain",
    licence="as its download page states (RSNA-ASNR-MICCAI BraTS 2021)",
    folder="BraTS2021_Training_Data",
    layout="BraTS2021_00000/BraTS2021_00000_flair.nii.gz with BraTS2021_00000_seg.nii.gz",
    list_sources=partial(list_sources, r"BraTS2021_\d+"),
    read_source=read_source,
    complete=1251,
    volume_rules=RULES,
)
