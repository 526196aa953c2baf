"""Seeded random inputs: batches, cases in memory, shards, and the models that are measured on them."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.learn.models import build_model
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.store.cases import CaseInfo, CaseSet, SetInfo, Spool, encode_chunk
from flames_cli.store.h5 import Selection, SpooledCase, write_preprocessed, write_shard

DISTINCT = 64
"""Cases that are drawn; more are copies of these."""

SMALL: dict[str, dict[str, Any]] = {
    "densenet-unet": {},
    "unet": {"base_channels": 4, "depth": 2},
    "utnet": {"base_channels": 4, "depth": 2},
    "sd-utnet": {"base_channels": 4, "depth": 2},
    "sdnet": {"base_channels": 4, "depth": 2},
}
"""Options of models that train in a moment on a CPU."""


@dataclass(frozen=True, slots=True)
class Job:
    """A model at an image size and a batch size, and what it is said to cost."""

    model: str
    size: int
    batch: int
    options: Mapping[str, Any] = field(default_factory=dict)
    gflop: tuple[float, float] | None = None
    """GFLOP of an image, forward and backward, and forward alone; None: as counted."""

    def build(self) -> SegmentationModel:
        """Return the model with random weights that are the same each time."""
        return copy_of(self.model, self.options)

    def with_batch(self, batch: int) -> "Job":
        """Return the same job with another batch size."""
        return replace(self, batch=batch)


DENSENET = Job("densenet-unet", 240, 64, gflop=(96.0, 32.0))
UNET = Job("unet", 96, 64, {"base_channels": 16})
TOY = Job("unet", 16, 2, SMALL["unet"])


def copy_of(name: str, options: Mapping[str, Any]) -> SegmentationModel:
    """Return a model of one's own on the CPU; to draw its weights takes a second, and is done once."""
    return copy.deepcopy(_drawn(name, tuple(sorted(options.items()))))


@lru_cache(maxsize=8)
def _drawn(name: str, options: tuple[tuple[str, Any], ...]) -> SegmentationModel:
    return build_model(name, seed=0, **dict(options))


def main_job(toy: bool) -> Job:
    """Return the paper's model at its own size; a toy on request."""
    return TOY if toy else DENSENET


def draw_batch(size: int, batch: int, device: torch.device, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return images in [-1, 1] and masks, float32, drawn on the CPU so that every device has the same."""
    drawn = _draw_discs(batch, size, derive_rng(0, "gpu batch", size, batch), bright=True)
    images = torch.from_numpy(drawn[0])[:, None].expand(-1, channels, -1, -1) * 2 - 1
    return images.contiguous().to(device), torch.from_numpy(drawn[1])[:, None].float().to(device)


def draw_cases(n: int, size: int, name: str = "busi", modality: str = "US", seed: int = 0) -> CaseSet:
    """Return `n` cases in memory: discs in noise, brighter than it in ultrasound and darker in MRI."""
    distinct = min(n, DISTINCT)
    rng = derive_rng(seed, "gpu cases", name, size)
    images, masks = _draw_discs(distinct, size, rng, bright=modality == "US")
    chosen = np.arange(n) % max(distinct, 1)
    cases = [
        CaseInfo(f"{name}-{i}", f"p{i}", f"p{i}", "", i, (1.0, 1.0), int(masks[row].sum()))
        for i, row in enumerate(chosen)
    ]
    pixels = np.rint(images * 255).astype(np.uint8)
    return CaseSet(SetInfo(name, modality, "breast", size, 255), cases, pixels[chosen], masks[chosen])


def _draw_discs(
    n: int, size: int, rng: np.random.Generator, bright: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images N×H×W in [0, 1], float32, and masks N×H×W, uint8."""
    place = np.arange(size, dtype=np.float32)
    centre = rng.uniform(0.3, 0.7, (2, n, 1, 1)).astype(np.float32) * size
    radius = rng.uniform(0.1, 0.25, (n, 1, 1)).astype(np.float32) * size
    masks = (place[:, None] - centre[0]) ** 2 + (place[None] - centre[1]) ** 2 < radius**2
    noise = rng.standard_normal((n, size, size), np.float32) * 0.08
    light = 0.3 + 0.4 * masks if bright else 0.7 - 0.4 * masks
    return np.clip(light + noise, 0, 1).astype(np.float32), masks.astype(np.uint8)


def write_toy_shard(folder: Path, n: int, size: int) -> Path:
    """Write a client's shard with `n` training and n // 4 validation cases, and return its path."""
    parts = {"client_train": n, "client_val": n // 4, "client_test": 1, "server_test": 1}
    drawn = {name: draw_cases(count, size, seed=number) for number, (name, count) in enumerate(parts.items())}
    source = folder / "busi.h5"
    with Spool(folder) as spool:
        spooled = {name: _spool(cases, spool) for name, cases in drawn.items()}
        write_preprocessed(source, drawn["client_train"].info, spooled, spool)
    sets = {own.removeprefix("client_"): own for own in parts if own != "server_test"}
    chosen = {name: Selection(source, {own: range(parts[own])}) for name, own in sets.items()}
    write_shard(folder / "client.h5", "busi", "US", chosen)
    return folder / "client.h5"


def _spool(cases: CaseSet, spool: Spool) -> list[SpooledCase]:
    return [
        SpooledCase(info, spool.add(encode_chunk(image)), spool.add(encode_chunk(mask)))
        for info, image, mask in zip(cases.cases, cases.images, cases.masks, strict=True)
    ]


def without_dropout(model: SegmentationModel) -> SegmentationModel:
    """Return `model` with its dropout off: devices draw from streams of their own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@contextmanager
def same_noise() -> Iterator[None]:
    """Make `torch.randn_like` draw on the CPU from a stream that starts again, for every device."""
    generator = torch.Generator().manual_seed(derive_seed(0, "noise"))

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    with patch.object(torch, "randn_like", draw):
        yield
