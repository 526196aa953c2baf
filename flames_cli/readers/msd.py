"""The layout of the Medical Segmentation Decathlon's tasks: what their readers share."""

from collections.abc import Set
from functools import reduce
from pathlib import Path

import numpy as np

from flames_cli.readers.base import RawCase, ReadOptions, Source
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import VolumeRules, read_slices, require_same_grid


def list_sources(root: Path) -> list[Source]:
    """Every labelled volume, liver_2 before liver_10; files that start with a dot are what macOS leaves."""
    images, labels = _volumes(root / "imagesTr"), _volumes(root / "labelsTr")
    return [
        Source(
            name=name,
            patient=name,
            image=images.get(name, root / "imagesTr" / f"{name}.nii.gz"),
            masks=(labels.get(name, root / "labelsTr" / f"{name}.nii.gz"),),
        )
        for name in sorted(images | labels, key=lambda name: (len(name), name))
    ]


def _volumes(folder: Path) -> dict[str, Path]:
    files = [path for pattern in ("*.nii", "*.nii.gz") for path in folder.glob(pattern)]
    return {path.name.split(".nii")[0]: path for path in files if not path.name.startswith(".")}


def read_source(
    source: Source,
    options: ReadOptions,
    rules: VolumeRules,
    labels: Set[int],
    tumour: Set[int],
    channel: int = 0,
) -> list[RawCase]:
    """The slices of one volume.

    Args:
        source: an image and its labels.
        options: what the user chose.
        rules: what holds where the user did not choose.
        labels: all that the label volume may hold.
        tumour: those that are tumour.
        channel: of a 4D image.

    Raises:
        BadCase: image or labels cannot be trusted.
        SkippedCase: no tumour.
    """
    image, mask = read_volume(source.image, channel), read_labels(source.masks[0], labels)
    require_same_grid(source, image, mask)
    marked = reduce(np.logical_or, (mask.voxels == label for label in tumour))
    return read_slices(source, image, marked, options, rules)
