"""Resizing to squares and back, and the affine warp of augmentation. H W pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Mask, Pixels
from flames_cli.core.imaging.resampling import resample_padded

MaskResize = Literal["aligned", "paper"]
"""Method of resizing masks. Both take the nearest pixel: `aligned` the one nearest to the centre of the new
pixel, where the image is resampled; `paper` the one nearest to its upper left corner, as the authors' OpenCV
does, which moves a mask by up to half a new pixel to the right and down."""


def pad_to_square(image: Pixels) -> Pixels:
    """Return `image` (H×W or H×W×3) padded with black along its shorter side (FLAMES, section 5.1).

    If the number of missing pixels is odd, the side before the image gets one more.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return image
    (top, bottom), (left, right) = _margins(side - height), _margins(side - width)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)


def _margins(missing: int) -> tuple[int, int]:
    half = missing // 2
    return half + missing % 2, half


def to_square(
    image: Pixels, mask: Mask, size: int, mask_resize: MaskResize = "aligned"
) -> tuple[Pixels, Mask]:
    """Pad image (H×W or H×W×3) and mask (H×W) to a square and resize both to `size`×`size`.

    The image is resampled by Lanczos over 8×8 pixels, the mask by nearest neighbour. An input that is already
    `size`×`size` is returned unchanged. 8-bit images stay 8-bit; others become float32, whose values may
    exceed the range of the input: clip them afterwards.

    Raises:
        ValueError: image and mask differ in shape.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image is {image.shape[:2]}, its mask {mask.shape}; both must have the same shape")
    height, width = mask.shape
    side = max(height, width)
    if side == size:
        return pad_to_square(image), pad_to_square(mask)
    top, left = _margins(side - height)[0], _margins(side - width)[0]
    resized = resample_padded(image, side, top, left, size)
    if image.dtype == np.uint8:
        np.clip(resized, 0, 255, out=resized)
        resized = np.rint(resized, out=resized).astype(np.uint8)
    taken = _taken(side, size, mask_resize)
    rows, columns = _inside(taken, top, height), _inside(taken, left, width)
    resized_mask = np.zeros((size, size), np.uint8)
    resized_mask[rows, columns] = mask.take(taken[rows] - top, axis=0).take(taken[columns] - left, axis=1)
    return resized, resized_mask


def pixel_after_square(
    spacing_mm: tuple[float, float], raw_shape: tuple[int, int], size: int
) -> tuple[float, float]:
    """Return the height and width of a pixel in mm after `to_square`, from those of a raw pixel.

    Args:
        spacing_mm: distance between raw rows and between raw columns, mm; NaN where it is unknown.
        raw_shape: raw rows and columns.
        size: side of the square, in pixels.
    """
    scale = max(raw_shape) / size if min(raw_shape) > 0 else math.nan
    rows, columns = (mm * scale if mm > 0 else math.nan for mm in spacing_mm)
    return rows, columns


def _inside(taken: NDArray[np.intp], before: int, n: int) -> slice:
    """Return the new rows that are taken from the `n` rows of the image, which follow `before` black ones."""
    return slice(*np.searchsorted(taken, (before, before + n)))


def from_square(mask: Mask, height: int, width: int, mask_resize: MaskResize = "aligned") -> Mask:
    """Undo `to_square`: resize a square mask by nearest neighbour and cut its margins to `height`×`width`.

    The result equals the mask that `to_square` was given, unless the square is smaller than that mask.
    `mask_resize` is the method of `to_square`; a file has it as `SetInfo.mask_resize`.
    """
    side = max(height, width)
    if mask.shape[0] != side:
        # For a raw row from which none was taken, the row that was taken nearest to it counts.
        taken = _taken(side, mask.shape[0], mask_resize)
        nearest = np.abs(np.arange(side)[:, None] - taken).argmin(axis=1)
        mask = mask[np.ix_(nearest, nearest)]
    top, left = _margins(side - height)[0], _margins(side - width)[0]
    return mask[top : top + height, left : left + width]


def map_from_square(
    values: NDArray[np.float32], height: int, width: int, mask_resize: MaskResize = "aligned"
) -> NDArray[np.float32]:
    """Bring a square map of real numbers, such as probabilities, back to the pixels of the source: undo
    `to_square` by linear interpolation and cut the margins to `height`×`width`.

    A map of the same side is cut only, so its values do not change. Every pixel of the source gets the value
    at the place where `to_square` took the mask from; outside the outermost centres, the border is repeated.

    Args:
        values: S×S.
        height: rows of the source image.
        width: its columns.
        mask_resize: the method of `to_square` for masks; `paper` moves them.
    """
    side = max(height, width)
    top, left = _margins(side - height)[0], _margins(side - width)[0]
    if len(values) == side:
        return values[top : top + height, left : left + width]
    rows, columns = (
        _places(side, len(values), mask_resize)[before : before + n]
        for before, n in ((top, height), (left, width))
    )
    # Not OpenCV's remap, which knows only 32 places between two pixels.
    return _interpolate(_interpolate(values, rows).T, columns).T


def _interpolate(values: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of `values` at `places`, real numbers, by linear interpolation between two rows."""
    inside = np.clip(places, 0, len(values) - 1)
    above = np.minimum(inside.astype(np.intp), max(len(values) - 2, 0))
    below = np.minimum(above + 1, len(values) - 1)
    share = (inside - above).astype(np.float32)[:, None]
    found: NDArray[np.float32] = values[above] * (1 - share) + values[below] * share
    return found


def _places(side: int, size: int, mask_resize: MaskResize) -> NDArray[np.float32]:
    """Return for each of `side` raw rows its place among the `size` new ones, as a real number."""
    raw = np.arange(side)
    if mask_resize == "paper" and side > size:
        return np.interp(raw, _taken(side, size, mask_resize), np.arange(size)).astype(np.float32)
    return ((raw + 0.5) * (size / side) - 0.5).astype(np.float32)


def _taken(side: int, size: int, mask_resize: MaskResize) -> NDArray[np.intp]:
    """Return for each of `size` new rows the one of `side` raw rows that its mask is taken from.

    Where two raw rows are equally near, every second new row takes the lower one: OpenCV's
    INTER_NEAREST_EXACT always takes the upper one, which moves masks by a quarter of a pixel at 512 to 256.
    """
    new = np.arange(size)
    if mask_resize == "paper":
        raw = np.arange(side, dtype=np.float32)[None]
        return np.asarray(cv2.resize(raw, (size, 1), interpolation=cv2.INTER_NEAREST)[0], np.intp)
    upper, rest = np.divmod((2 * new + 1) * side, 2 * size)
    return np.asarray(upper - ((rest == 0) & (new % 2 == 0)))


@dataclass(frozen=True, slots=True)
class Warp:
    """Parameters of one random augmentation, which image and mask share."""

    rotation_deg: float = 0.0
    zoom: float = 1.0
    """Scale factor; above 1 enlarges."""
    stretch: float = 1.0
    """Change of width / height at constant area; above 1 widens."""
    shift_x: float = 0.0
    """Shift to the right, as a fraction of the width."""
    shift_y: float = 0.0
    """Shift down, as a fraction of the height."""
    flip_x: bool = False
    flip_y: bool = False


def warp_matrix(warp: Warp, height: int, width: int) -> Floats:
    """Return the 2×3 affine matrix (source → destination pixels, about the image's centre) of `warp`."""
    angle = np.deg2rad(warp.rotation_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    root = np.sqrt(warp.stretch)
    scale = np.diag([warp.zoom * root, warp.zoom / root])
    mirror = np.diag([-1.0 if warp.flip_x else 1.0, -1.0 if warp.flip_y else 1.0])
    linear = rotation @ scale @ mirror
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.array([warp.shift_x * width, warp.shift_y * height])
    offset = centre + shift - linear @ centre
    return np.column_stack([linear, offset])


def apply_warp(image: Pixels, mask: Mask, warp: Warp) -> tuple[Pixels, Mask]:
    """Warp an image (H×W or H×W×3, float32 in [0, 1]) and its mask (H×W).

    The image is resampled by Lanczos and clipped to [0, 1], the mask by nearest neighbour. Pixels from
    outside the image are black.
    """
    height, width = mask.shape
    matrix = warp_matrix(warp, height, width)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LANCZOS4)
    moved_mask = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return np.clip(moved, 0.0, 1.0), moved_mask.astype(np.uint8, copy=False)
