"""A data set in a device's memory, in the precision of its files, and batches that the device makes of it.

A GPU warps a batch in about a millisecond, where the CPU's threads need longer than the step that follows.
B batch, C channels (1 grey, 3 colour), H W pixels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flames_cli.core.imaging.geometry import Warp, warp_matrix
from flames_cli.learn.data import MEAN, STD, ShardDataset

SHARE = 0.25
"""Largest share of a device's free memory that one data set may take; activations need the rest."""


class DeviceShard:
    """All cases of a data set in the memory of one device: 8- or 16-bit images, 8-bit masks."""

    def __init__(self, dataset: ShardDataset, device: torch.device) -> None:
        parts, wide = list(dataset.arrays()), _is_wide(dataset)
        # torch computes little with uint16: the bits travel as int16, and `_floats` reads them again.
        stored = [images.astype(np.uint16).view(np.int16) if wide else images for images, _, _ in parts]
        self._images = _joined(stored, device)
        self._masks = _joined([masks for _, masks, _ in parts], device)
        maxima = [np.full(len(images), maximum, np.float32) for images, _, maximum in parts]
        self._maxima = _joined(maxima, device)
        self._device = device

    def batch(self, cases: Sequence[int], warps: Sequence[Warp | None]) -> tuple[Tensor, Tensor]:
        """Return images (B×C×H×W in [-1, 1]) and masks (B×1×H×W of 0 and 1) in float32, warped alike.

        Unwarped cases have the same values as those of `iterate_batches`, bit for bit. A warped image is
        resampled bicubically where `apply_warp` takes Lanczos over 8×8 pixels; the places are the same. Real
        images differ by 0.002 (240×240) to 0.005 (64×64) of their range in the mean, masks in no pixel
        (docs/performance.md).

        Args:
            cases: indices of the cases.
            warps: a warp for each case, or None for all.
        """
        chosen = to_device(torch.tensor(cases, dtype=torch.int64), self._device)
        images = _floats(self._images.index_select(0, chosen))
        images = images[:, None] if images.ndim == 3 else images.movedim(3, 1)
        images = images / self._maxima.index_select(0, chosen)[:, None, None, None]
        masks = self._masks.index_select(0, chosen)[:, None].float()
        drawn = [warp for warp in warps if warp is not None]
        if drawn:
            images, masks = warp_batch(images, masks, drawn)
        return (images - MEAN) / STD, masks


def _is_wide(dataset: ShardDataset) -> bool:
    """Return whether any image has 16 bits: all of them are then stored with 16."""
    return any(images.dtype != np.uint8 for images, _, _ in dataset.arrays())


def size_of(dataset: ShardDataset) -> int:
    """Return the memory in bytes that images and masks of `dataset` need on a device."""
    pixels = sum(images.size for images, _, _ in dataset.arrays())
    return pixels * (2 if _is_wide(dataset) else 1) + sum(masks.nbytes for _, masks, _ in dataset.arrays())


def warp_batch(images: Tensor, masks: Tensor, warps: Sequence[Warp]) -> tuple[Tensor, Tensor]:
    """Return images B×C×H×W in [0, 1] and masks B×1×H×W, each warped by its own of B warps, on their device.

    Images are resampled bicubically and clipped to [0, 1], masks by nearest neighbour; pixels from outside
    the image are black.
    """
    size = list(masks.shape)
    places = to_device(torch.from_numpy(sampling_matrices(warps, size[2], size[3])), masks.device)
    grid = F.affine_grid(places, size, align_corners=False)
    sample = partial(F.grid_sample, grid=grid, padding_mode="zeros", align_corners=False)
    return sample(images, mode="bicubic").clamp_(0, 1), sample(masks, mode="nearest")


def sampling_matrices(warps: Sequence[Warp], height: int, width: int) -> NDArray[np.float32]:
    """Return B×2×3 matrices from a place in the result to its place in the image, both in [-1, 1] from edge
    to edge: the inverses of `warp_matrix`, in the units of `grid_sample`."""
    to_pixels = np.array([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
    forward = np.tile(np.eye(3), (len(warps), 1, 1))
    forward[:, :2] = [warp_matrix(warp, height, width) for warp in warps]
    found = np.linalg.inv(to_pixels) @ np.linalg.inv(forward) @ to_pixels
    return np.asarray(found[:, :2], np.float32)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`. CUDA copies it from pinned memory, so that no step waits for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class DeviceShards:
    """The shards in the memory of this process' devices, each as long as its data set is in use.

    The clients of a simulation and the rounds of a node share them, so that each is copied once.
    """

    def __init__(self, free_bytes: Callable[[torch.device], int]) -> None:
        self._free_bytes = free_bytes
        self._made: WeakKeyDictionary[ShardDataset, dict[torch.device, DeviceShard]] = WeakKeyDictionary()
        self._lock = Lock()

    def find(self, dataset: ShardDataset, device: torch.device) -> DeviceShard | None:
        """Return `dataset` in the memory of `device`; None if it has no room for it there."""
        with self._lock:
            made = self._made.setdefault(dataset, {})
            if device not in made:
                if size_of(dataset) > SHARE * self._free_bytes(device):
                    return None
                made[device] = DeviceShard(dataset, device)
            return made[device]


def _free_bytes(device: torch.device) -> int:
    """Return the memory of a CUDA device that is free, or kept by torch for its next tensors."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


SHARDS = DeviceShards(_free_bytes)


def _floats(pixels: Tensor) -> Tensor:
    """Return 8-bit pixels, or 16-bit ones that are stored as int16, as float32."""
    return (pixels.int() & 0xFFFF).float() if pixels.dtype == torch.int16 else pixels.float()


def _joined(arrays: Sequence[NDArray[np.generic]], device: torch.device) -> Tensor:
    # A copy in any case: torch warns about read-only arrays.
    return torch.from_numpy(np.concatenate(arrays)).to(device)
