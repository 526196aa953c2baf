"""BraTS as its challenges publish it, one folder a patient: what the readers of its years share."""

import re
from pathlib import Path

from flames_cli.readers.base import RawCase, ReadOptions, Source
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import VolumeRules, read_slices, require_same_grid

LABELS = frozenset({0, 1, 2, 3, 4})
"""Background, core, edema, none, enhancing tumour (3 in copies that renumber it): all above 0 is tumour."""
RULES = VolumeRules("MRI", slices="near")
"""As Task01 of the Decathlon, which is BraTS of 2016 and 2017."""

SUFFIXES = ("nii", "nii.gz")
MISNAMED = ("*_Segm.nii", "*_Segm.nii.gz")
"""BraTS20_Training_355 holds W39_1998.09.19_Segm.nii in place of its `_seg` file."""


def list_sources(root: Path, name: str) -> list[Source]:
    """Every patient's folder whose name matches `name` whole: FLAIR and segmentation.

    TCIA sorts BraTS 2021 into folders by collection (TCGA-GBM, UPENN-GBM, …): where there are several, these
    are the sites.
    """
    found = [path for depth in ("*", "*/*") for path in root.glob(depth) if re.fullmatch(name, path.name)]
    # A link may lead to a folder that is listed already; the shorter way counts.
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
    """The one that is there; else the one that should be, so that it is reported."""
    expected = [folder / f"{folder.name}_{kind}.{suffix}" for suffix in SUFFIXES]
    others = sorted(path for pattern in otherwise for path in folder.glob(pattern))
    visible = [path for path in (*expected, *others) if path.is_file() and not path.name.startswith(".")]
    return visible[0] if visible else expected[-1]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial FLAIR slices that hold tumour, within `slice_half_width` of their mean index.

    Raises:
        BadCase: image or segmentation cannot be trusted.
        SkippedCase: no tumour.
    """
    image, mask = read_volume(source.image), read_labels(source.masks[0], LABELS)
    require_same_grid(source, image, mask)
    return read_slices(source, image, mask.voxels > 0, options, RULES)
