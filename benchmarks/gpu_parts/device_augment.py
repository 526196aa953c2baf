"""A candidate for augmentation: a shard lies on the device as bytes, and one grid_sample warps a batch."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flames_cli.core.imaging.geometry import Warp, warp_matrix
from flames_cli.core.rng import derive_rng
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import MEAN, STD, ShardDataset


class OnDevice:
    """The grey cases of a data set lie on a device as bytes; of 16 bits the lower eight are lost."""

    def __init__(self, dataset: ShardDataset, device: torch.device, mode: str) -> None:
        examples = [dataset.example(index) for index in range(len(dataset))]
        images = np.stack([np.rint(image * 255).astype(np.uint8) for image, _ in examples])
        self._images = torch.from_numpy(images)[:, None].to(device)
        self._masks = torch.from_numpy(np.stack([mask for _, mask in examples]))[:, None].to(device)
        self._device, self._mode = device, mode

    def batch(self, rows: NDArray[np.intp], warps: Sequence[Warp]) -> tuple[Tensor, Tensor]:
        """Return images in [-1, 1] and masks of 0 and 1, B×1×H×W float32, warped alike."""
        chosen = torch.from_numpy(rows).to(self._device)
        images = self._images.index_select(0, chosen).float().div_(255)
        masks = self._masks.index_select(0, chosen).float()
        height, width = images.shape[2:]
        theta = torch.from_numpy(sampling_matrices(warps, height, width)).to(self._device)
        grid = F.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
        moved = F.grid_sample(images, grid, mode=self._mode, padding_mode="zeros", align_corners=False)
        moved_masks = F.grid_sample(masks, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return (moved.clamp_(0, 1) - MEAN) / STD, moved_masks


def sampling_matrices(warps: Sequence[Warp], height: int, width: int) -> NDArray[np.float32]:
    """Return B×2×3: where in the image, in [-1, 1] from edge to edge, a place of the result comes from."""
    to_pixels = np.array([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
    found = []
    for warp in warps:
        forward = np.vstack([warp_matrix(warp, height, width), [0, 0, 1]])
        found.append((np.linalg.inv(to_pixels) @ np.linalg.inv(forward) @ to_pixels)[:2])
    return np.stack(found).astype(np.float32)


def compare_warps(dataset: ShardDataset, n: int, device: torch.device) -> dict[str, float]:
    """Return how far the candidates are from OpenCV's Lanczos (grey values in [0, 1]) and nearest (share)."""
    rng = derive_rng(0, "compare warps")
    warps = [draw_warp(rng) for _ in range(n)]
    expected = [dataset.example(index, warp) for index, warp in enumerate(warps)]
    image = np.stack([one for one, _ in expected])
    mask = np.stack([one for _, one in expected])
    found = {}
    for mode in ("bilinear", "bicubic"):
        images, masks = OnDevice(dataset, device, mode).batch(np.arange(n), warps)
        grey = images[:, 0].cpu().numpy() * STD + MEAN
        found[f"{mode}: mean grey difference"] = float(np.abs(grey - image).mean())
        found["mask pixels that differ"] = float((masks[:, 0].cpu().numpy() != mask).mean())
    return found
