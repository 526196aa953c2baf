"""Small data sets in memory: discs that are brighter than the noise around them."""

from collections.abc import Callable

import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.store.cases import CaseInfo, CaseSet, SetInfo


@pytest.fixture(scope="session", autouse=True)
def _everywhere(one_thread):
    """Run every test of this folder with it."""


@pytest.fixture(scope="session")
def discs() -> Callable[..., CaseSet]:
    """Function discs(6, size=16, max_value=255, dataset="busi", organ="breast", channels=1) → a set of cases."""
    return _draw_discs


def _draw_discs(
    n: int,
    size: int = 16,
    seed: int = 0,
    max_value: int = 255,
    dataset: str = "busi",
    organ: str = "breast",
    channels: int = 1,
) -> CaseSet:
    info = SetInfo(dataset, "US", organ, size, max_value, channels)
    drawn = [_draw_disc(info.pixel_shape, derive_rng(seed, "disc", index)) for index in range(n)]
    images = np.array([image for image, _ in drawn]).reshape(n, *info.pixel_shape) * max_value
    masks = np.array([mask for _, mask in drawn], np.uint8).reshape(n, size, size)
    cases = [
        CaseInfo(f"{dataset}-{index}", f"p{index}", f"p{index}", "", index, (1.0, 1.0), int(mask.sum()))
        for index, mask in enumerate(masks)
    ]
    return CaseSet(info, cases, images.astype(info.dtype), masks)


def _draw_disc(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in [0, 1] (in colour with a red disc) and its mask."""
    size = shape[0]
    (row, column), radius = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.15, 0.25) * size
    rows, columns = np.mgrid[:size, :size]
    mask = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    light = mask if len(shape) == 2 else np.stack([mask, mask * 0.2, mask * 0.1], axis=2)
    return np.clip(0.2 + 0.6 * light + rng.normal(0, 0.05, shape), 0, 1), mask
