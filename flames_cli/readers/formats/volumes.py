"""Cut volumes of any file format into slices: choose plane, slices and intensities."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.intensity import MAX_12_BIT
from flames_cli.core.imaging.labels import Flags
from flames_cli.core.imaging.volumes import PLANES, Placement, ras_order, take_slice
from flames_cli.readers.base import (
    EMPTY_MASK,
    BadCase,
    RawCase,
    ReadOptions,
    SkippedCase,
    Source,
    VolumeRules,
)
from flames_cli.readers.formats.ranges import choose_range

GRID_TOLERANCE = 1.0
"""Largest distance, in voxels, between the corners of mask and image: headers are rounded."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One channel of a volume in RAS: X×Y×Z voxels, first axis to the patient's right."""

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    """Matrix from voxel indices (in the file's order, not RAS) to mm (RAS), 4×4."""
    axes: str
    """Axis codes of the file, such as LPS."""
    notes: tuple[str, ...] = ()
    """Remarks about the file (see RawCase)."""

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """Shape in the file's order."""
        x, y, z = np.array(self.voxels.shape)[np.argsort(ras_order(self.axes))]
        return int(x), int(y), int(z)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along x, y and z of RAS, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)[ras_order(self.axes)]
        return float(x), float(y), float(z)


def stored_as(volume: Volume, axes: str) -> Volume:
    """Return `volume` as a file with the axis codes `axes` stores it: same voxels, same positions."""
    turn = _from_ras(volume.axes, volume.voxels.shape) @ np.linalg.inv(_from_ras(axes, volume.voxels.shape))
    return Volume(volume.voxels, volume.affine @ turn, axes, volume.notes)


def _from_ras(axes: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the 4×4 matrix from RAS voxels to voxels of a file with the codes `axes`; `shape` is in RAS."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for axis, (column, size) in enumerate(zip(ras_order(axes), shape, strict=True)):
        backwards = axes[column] not in "RAS"
        matrix[column, axis] = -1.0 if backwards else 1.0
        matrix[column, 3] = size - 1 if backwards else 0
    return matrix


def require_same_grid(source: Source, image: Volume, mask: Volume) -> None:
    """Check that a mask has the voxels of its image.

    Raises:
        BadCase: shape, axes or position differ.
    """
    if image.file_shape != mask.file_shape:
        raise BadCase(f"{source.name}: the mask is {mask.file_shape}, its image {image.file_shape}")
    if image.axes != mask.axes:
        raise BadCase(f"{source.name}: the mask's axes are {mask.axes}, its image's {image.axes}")
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= np.array(image.file_shape) - 1
    apart_mm = np.linalg.norm(corners @ (image.affine - mask.affine).T, axis=1).max()
    if apart_mm > GRID_TOLERANCE * min(image.spacing_mm):
        raise BadCase(
            f"{source.name}: the mask's header places it up to {apart_mm:.1f} mm from its image's voxels; "
            "save it with the image's header if it was drawn on these voxels, else resample it onto them"
        )


def read_slices(
    source: Source, image: Volume, tumour: Flags, options: ReadOptions, rules: VolumeRules
) -> list[RawCase]:
    """Return the cases of one volume: H×W views of its slices, turned by 90° as in the FLAMES paper.

    A volume without tumour gives all slices that are not constant, if the options keep such volumes. With
    `options.complete`, all slices of the volume are returned, in order, and the others are not selected.

    Args:
        source: the volume; its name is part of the names of its cases.
        image: the voxels.
        tumour: X×Y×Z in RAS, True for tumour.
        options: choices of the user.
        rules: rules of the data set, for all that the user did not choose.

    Raises:
        SkippedCase: no slice is selected.
        BadCase: the intensities cannot be scaled.
    """
    chosen = (
        _choose_of_tumour(tumour, options, rules)
        if tumour.any()
        else _choose_of_healthy(image, options, rules)
    )
    low, high = choose_range(source.image.name, image.voxels, rules, options)
    wanted = range(tumour.shape[PLANES[options.plane]]) if options.complete else chosen
    selected = frozenset(chosen)
    return [
        replace(
            _case(source, image, tumour, options.plane, index, low, high),
            selected=index in selected,
        )
        for index in wanted
    ]


def _choose_of_tumour(tumour: Flags, options: ReadOptions, rules: VolumeRules) -> list[int]:
    per_slice = np.moveaxis(tumour, PLANES[options.plane], 2).sum(axis=(0, 1))
    chosen = choose_slices(
        per_slice, options.slices or rules.slices, options.slice_half_width, rules.min_lesion_px
    )
    if not chosen:
        raise SkippedCase(_why_none(options, rules))
    return chosen


def _choose_of_healthy(image: Volume, options: ReadOptions, rules: VolumeRules) -> list[int]:
    """Return the slices of a volume without tumour: all that are not constant, or every slice with `all`."""
    if not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    slices = np.moveaxis(image.voxels, PLANES[options.plane], 2)
    if (options.slices or rules.slices) == "all":
        return list(range(slices.shape[2]))
    chosen = np.flatnonzero(slices.min(axis=(0, 1)) != slices.max(axis=(0, 1)))
    if not chosen.size:
        raise SkippedCase("the volume has no lesion, and each of its slices is of one value")
    return [int(index) for index in chosen]


def choose_slices(tumour_px: NDArray[np.int_], slices: str, half_width: int, min_lesion_px: int) -> list[int]:
    """Return the indices of the selected slices; `tumour_px` is the number of tumour pixels of each.

    `all` selects every slice; `lesion` those with `min_lesion_px` tumour pixels or more; `near` those of
    `lesion` that are within ±`half_width` of their mean index (the authors' code).
    """
    if slices == "all":
        return list(range(len(tumour_px)))
    with_tumour = np.flatnonzero(tumour_px >= min_lesion_px)
    if slices == "near" and with_tumour.size:
        with_tumour = with_tumour[np.abs(with_tumour - with_tumour.mean()) <= half_width]
    return [int(index) for index in with_tumour]


def _why_none(options: ReadOptions, rules: VolumeRules) -> str:
    if rules.min_lesion_px > 1:
        return f"no slice contains {rules.min_lesion_px} tumour pixels or more"
    return f"no slice within {options.slice_half_width} of the tumour's mean index contains tumour"


def _case(
    source: Source, image: Volume, tumour: Flags, plane: str, index: int, low: float, high: float
) -> RawCase:
    pixels = take_slice(image.voxels, plane, index)
    # Rows run along the later of the plane's two axes, columns along the earlier one.
    columns_mm, rows_mm = np.delete(image.spacing_mm, PLANES[plane])
    return RawCase(
        case=f"{source.name}/{'xyz'[PLANES[plane]]}{index:03d}",
        patient=source.patient,
        image=pixels,
        mask=take_slice(tumour.view(np.uint8), plane, index),
        low=low,
        high=high,
        max_value=MAX_12_BIT,
        slice_index=index,
        spacing_mm=(float(rows_mm), float(columns_mm)),
        place=Placement(plane, index, image.file_shape, image.axes, tuple(image.affine.ravel().tolist())),
    )
