"""Ranges of the training images of a model, so that images unlike them are noticed when it is used."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.appearance import describe_appearance
from flames_cli.core.imaging.intensity import dequantise
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.h5 import read_spread_images
from flames_cli.store.models import Seen

MOST_IMAGES = 1000
"""Largest number of images of a shard that are read; the 1st percentile of more would hardly differ."""

PERCENTILES = (1, 99)

DIGITS = 4
"""Significant digits that are stored: more would only describe single images."""


def find_seen(shards: Sequence[Path]) -> Seen | None:
    """Return the ranges of the training images in shards; None without an image.

    Raises:
        FlamesError: a shard cannot be read.
    """
    rows = [_numbers(*found) for path in shards for found in read_spread_images(path, "train", MOST_IMAGES)]
    if not rows:
        return None
    names = ("rows", "columns", "pixel", "mean", "deviation", "black")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    return Seen(
        n_images=len(rows),
        rows=_range(columns["rows"]),
        columns=_range(columns["columns"]),
        mean=_range(columns["mean"]),
        deviation=_range(columns["deviation"]),
        black=_range(columns["black"]),
        pixel_mm=_range(known) if (known := [*filter(np.isfinite, columns["pixel"])]) else None,
    )


def _numbers(info: SetInfo, case: CaseInfo, image: Pixels) -> tuple[float, ...]:
    looks = describe_appearance(dequantise(image, info.max_value))
    return (*map(float, case.raw_shape), case.spacing_mm[0], looks.mean, looks.deviation, looks.black)


def _range(values: Iterable[float]) -> tuple[float, float]:
    low, high = np.percentile([*values], PERCENTILES)
    return _rounded(low), _rounded(high)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
