"""Square images of one size, and the one affine warp of augmentation. H W pixels."""

from dataclasses import dataclass

import cv2
import numpy as np

from flames_cli.arrays import Floats, Mask, Pixels


def pad_to_square(image: Pixels) -> Pixels:
    """`image` (H×W) with black added to its short side; the odd pixel goes before (FLAMES, section 5.1)."""
    height, width = image.shape
    side = max(height, width)
    if height == width:
        return image
    return np.pad(image, (_margins(side - height), _margins(side - width)))


def _margins(missing: int) -> tuple[int, int]:
    half = missing // 2
    return half + missing % 2, half


def to_square(image: Pixels, mask: Mask, size: int) -> tuple[Pixels, Mask]:
    """Image and mask (both H×W) padded to a square and resized to `size`×`size`.

    The image by Lanczos over 8×8 pixels (it may overshoot its range: clip after), the mask by nearest
    neighbour. An input that is already `size`×`size` is returned as it is.

    Raises:
        ValueError: image and mask differ in shape.
    """
    if image.shape != mask.shape:
        raise ValueError(f"image is {image.shape}, its mask {mask.shape}; they must have one shape")
    image, mask = pad_to_square(image), pad_to_square(mask)
    if image.shape[0] == size:
        return image, mask
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_LANCZOS4)
    resized_mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
    return resized, resized_mask.astype(np.uint8, copy=False)


@dataclass(frozen=True, slots=True)
class Warp:
    """One draw of augmentation, as plain data: what image and mask share."""

    rotation_deg: float = 0.0
    zoom: float = 1.0
    """Above 1 enlarges."""
    stretch: float = 1.0
    """Width over height, above 1 widens; area is kept."""
    shift_x: float = 0.0
    """To the right, as a fraction of the width."""
    shift_y: float = 0.0
    """Down, as a fraction of the height."""
    flip_x: bool = False
    flip_y: bool = False


def warp_matrix(warp: Warp, height: int, width: int) -> Floats:
    """The 2×3 affine matrix (source → destination pixels, about the image's centre) of `warp`."""
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
    """Image (H×W float32 in [0, 1]) by Lanczos, clipped to [0, 1]; mask (H×W) by nearest; black outside."""
    height, width = image.shape
    matrix = warp_matrix(warp, height, width)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LANCZOS4)
    moved_mask = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return np.clip(moved, 0.0, 1.0), moved_mask.astype(np.uint8, copy=False)
