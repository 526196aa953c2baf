"""Overlays of one input: the image; of a volume the slice with the largest predicted area, and a montage."""

from pathlib import Path

import numpy as np

from flames_cli.core.imaging.overlays import Layers, draw_montage, draw_overlay
from flames_cli.stages.predict.masks import SourceMask
from flames_cli.stages.predict.preparing import Prepared
from flames_cli.writers.pictures import write_picture

TILES = 16
"""Largest number of slices in a montage."""


def write_overlays(target: Path, prepared: Prepared, found: SourceMask) -> list[Path]:
    """Write `target`.png, and for a volume `target`-slices.png, and return their paths.

    Args:
        target: path without suffix.
        prepared: the input, with its pictures.
        found: its mask.
    """
    largest = int(found.stack.sum(axis=(1, 2), dtype=np.int64).argmax())
    if not found.stack.any():
        largest = prepared.n // 2
    paths = [target.with_name(f"{target.name}.png")]
    write_picture(paths[0], draw_overlay(_layers(prepared, found, largest)))
    if prepared.is_volume:
        paths.append(target.with_name(f"{target.name}-slices.png"))
        tiles = [_layers(prepared, found, index) for index in choose_slices(prepared, found)]
        write_picture(paths[1], draw_montage(tiles))
    return paths


def choose_slices(prepared: Prepared, found: SourceMask) -> list[int]:
    """Return slices at even distances over those with a predicted or a true lesion; over all without one."""
    either = found.stack.any(axis=(1, 2))
    if prepared.truth is not None:
        either |= prepared.truth.any(axis=(1, 2))
    inside = np.flatnonzero(either) if either.any() else np.arange(prepared.n)
    first, last = int(inside[0]), int(inside[-1])
    return sorted({int(place) for place in np.linspace(first, last, min(TILES, last - first + 1)).round()})


def _layers(prepared: Prepared, found: SourceMask, index: int) -> Layers:
    return Layers(
        image=prepared.shown[index],
        mask=found.stack[index],
        truth=None if prepared.truth is None else prepared.truth[index],
        pixel=prepared.spacing_mm,
        caption=f"slice {index}" if prepared.is_volume else "",
    )
