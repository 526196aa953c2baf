"""Task01_BrainTumour of the Medical Segmentation Decathlon (brain MRI, FLAIR channel)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.intensity import MAX_12_BIT, percentile_range
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, SkippedCase, Source, read_all
from flames_cli.readers.nifti import Volume, read_volume

NAME = "brats"
ALIASES: tuple[str, ...] = ("task01_braintumour",)
MODALITY = "MRI"
ORGAN = "brain"
LICENCE = "CC BY-SA 4.0 (medicaldecathlon.com)"
FOLDER = "Task01_BrainTumour"
LAYOUT = "imagesTr/BRATS_001.nii.gz with labelsTr/BRATS_001.nii.gz"
SERVER_TEST = 230
STILL = False

FLAIR = 0
LABELS = frozenset({0, 1, 2, 3, 4})
"""The Decathlon's 0..3 and BraTS's own 0..4 (4 is enhancing tumour there): all above 0 is tumour."""


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume; files that start with a dot are what macOS leaves in archives."""
    images, labels = _volumes(root / "imagesTr"), _volumes(root / "labelsTr")
    return [
        Source(
            name=name,
            patient=name,
            image=images.get(name, root / "imagesTr" / f"{name}.nii.gz"),
            masks=(labels.get(name, root / "labelsTr" / f"{name}.nii.gz"),),
        )
        for name in sorted(images | labels)
    ]


def _volumes(folder: Path) -> dict[str, Path]:
    files = [path for pattern in ("*.nii", "*.nii.gz") for path in folder.glob(pattern)]
    return {path.name.split(".nii")[0]: path for path in files if not path.name.startswith(".")}


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour, within `slice_half_width` of their mean index, turned by 90°."""
    image, mask = read_volume(source.image, FLAIR), _read_labels(source)
    if image.voxels.shape != mask.voxels.shape:
        raise BadCase(f"{source.name}: the mask is {mask.voxels.shape}, its image {image.voxels.shape}")
    if image.axes != mask.axes:
        raise BadCase(f"{source.name}: the mask's axes are {mask.axes}, its image's {image.axes}")
    tumour = mask.voxels > 0
    kept = slices_near_tumour(tumour, options.slice_half_width)
    if not tumour.any():
        raise SkippedCase("the mask is empty")
    if not kept:
        raise SkippedCase(
            f"no slice within {options.slice_half_width} of the tumour's mean index holds tumour"
        )
    try:
        low, high = percentile_range(image.voxels)
    except ValueError as error:
        raise BadCase(f"{source.image.name}: {error}") from error
    return [_axial_case(source, image, tumour, z, low, high) for z in kept]


def slices_near_tumour(tumour: np.ndarray, half_width: int) -> list[int]:
    """Axial indices that hold tumour (X×Y×Z, True) within ±`half_width` of their mean (the authors' code)."""
    bearing = np.flatnonzero(tumour.any(axis=(0, 1)))
    if bearing.size == 0:
        return []
    return [int(z) for z in bearing if abs(z - bearing.mean()) <= half_width]


def _read_labels(source: Source) -> Volume:
    path = source.masks[0]
    volume = read_volume(path)
    values = set(np.unique(volume.voxels).tolist())
    if not values <= LABELS:
        unknown = sorted(values - LABELS)[:5]
        raise BadCase(f"{path.name}: the mask holds the labels {unknown}, expected only {sorted(LABELS)}")
    return volume


def _axial_case(
    source: Source, image: Volume, tumour: np.ndarray, z: int, low: float, high: float
) -> RawCase:
    mask: Mask = np.rot90(tumour[:, :, z]).astype(np.uint8)
    return RawCase(
        case=f"{source.name}/z{z:03d}",
        patient=source.patient,
        image=np.rot90(image.voxels[:, :, z]),
        mask=mask,
        low=low,
        high=high,
        max_value=MAX_12_BIT,
        slice_index=z,
        spacing_mm=(image.spacing_mm[1], image.spacing_mm[0]),
    )


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
