"""Files of an exported model for other programs, checked on real images if they are on this machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.imaging.intensity import dequantise
from flames_cli.errors import FlamesError
from flames_cli.learn.formats.writing import write_formats
from flames_cli.stages.export.source_runs import SourceRun
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.model_formats import WrittenFormat
from flames_cli.store.models import ModelInfo

REAL_IMAGES = 16
"""Largest number of real images of the check."""


def export_formats(
    folder: Path, run: SourceRun, info: ModelInfo, weights: Weights, formats: Sequence[str]
) -> list[WrittenFormat]:
    """Write the files of a model for other programs into its folder.

    Raises:
        FlamesError: a package is missing, torch cannot export the model, or a file differs from torch.
        NotWritten: the disk is full.
    """
    return write_formats(folder, info, weights, formats, _real_images(run, info)) if formats else []


def _real_images(run: SourceRun, info: ModelInfo) -> NDArray[np.float32]:
    """Return validation images of the model's clients, of each client as many: N×S×S or N×S×S×3 in [0, 1].

    Nothing is chosen by them: they are only computed twice. Without their shards N is 0.
    """
    side, colours = info.input.size, (info.input.channels,) if info.input.channels > 1 else ()
    own = [client for client in run.clients if client.shard and client.modality == info.input.modality]
    own = [client for client in own if info.training.client in ("", client.name)]
    share = max(1, REAL_IMAGES // max(1, len(own)))
    found = [image for client in own if client.shard for image in _images_of(client.shard, share)]
    same = [image for image in found[:REAL_IMAGES] if image.shape == (side, side, *colours)]
    return np.stack(same) if same else np.zeros((0, side, side, *colours), np.float32)


def _images_of(shard: Path, n: int) -> list[NDArray[np.float32]]:
    """Return `n` validation images of a shard at regular distances; training images if it has no others."""
    for name in ("val", "train"):
        try:
            sets = [cases for cases in read_shard_sets(shard, name) if len(cases)]
        except FlamesError:
            return []
        if sets:
            cases = sets[0]
            rows = dict.fromkeys(np.linspace(0, len(cases) - 1, n).astype(int).tolist())
            return [dequantise(cases.images[row], cases.info.max_value) for row in rows]
    return []
