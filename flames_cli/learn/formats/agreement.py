"""Comparison of a file for other programs with torch, on random and on real images.

N images, C channels, S side of the images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.learn.formats import TOLERANCE
from flames_cli.store.models import ModelInfo

BATCH_SIZES = (1, 2, 5)
"""Batch sizes of the check: other than those of the traced example, too."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Function of a file: images N×C×S×S float32 in [0, 1] to probabilities N×1×S×S."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Result of a comparison with torch."""

    largest_difference: float
    """Largest difference of a probability, in [0, 1]."""
    random_images: int
    real_images: int


def compare(
    run: Run, expected: Run, batches: Iterable[NDArray[np.float32]], images: NDArray[np.float32]
) -> Agreement:
    """Return how much the probabilities of a file differ from those that are expected.

    Args:
        run: function of the file.
        expected: function of the model in torch.
        batches: random images, N×C×H×W in [0, 1] (see `random_batches`).
        images: real images, N×S×S or N×S×S×3 float32 in [0, 1]; may be empty.
    """
    largest, n_random = 0.0, 0
    for batch in batches:
        largest = max(largest, _difference(run, expected, batch))
        n_random += len(batch)
    real = images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1)
    for batch in _divide(np.ascontiguousarray(real)):
        largest = max(largest, _difference(run, expected, batch))
    return Agreement(largest, n_random, len(real))


def run_in_torch(program: nn.Module) -> Run:
    """Return the function of a model in torch."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = program(torch.from_numpy(images)).numpy()
        return found

    return run


def random_batches(
    info: ModelInfo, shapes: Sequence[tuple[int, int]] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield one batch of random images for each of BATCH_SIZES; the same model gives the same images.

    Args:
        info: the model.
        shapes: rows and columns of the images of each batch; None: the model's own size.
    """
    rng = derive_rng(0, "formats", info.name)
    own = (info.input.size, info.input.size)
    for size, shape in zip(BATCH_SIZES, shapes or [own] * len(BATCH_SIZES), strict=True):
        yield rng.random((size, info.input.channels, *shape), np.float32)


def check_agreement(agreement: Agreement, what: str, name: str) -> None:
    """Raise FlamesError if `what`, a file of the model `name`, differs from torch by more than TOLERANCE."""
    # Written so that a difference that is not a number is an error, too.
    if not agreement.largest_difference <= TOLERANCE:
        raise FlamesError(
            f"{what} of model {name} differs from torch by {agreement.largest_difference:.2g} in probability "
            f"on {agreement.random_images + agreement.real_images} images, expected at most {TOLERANCE:g}; "
            "it was not written; export the model with another --format, or with other versions of the "
            "packages"
        )


def _divide(images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the images in batches of all BATCH_SIZES in turn."""
    start, turn = 0, 0
    while start < len(images):
        size = BATCH_SIZES[turn % len(BATCH_SIZES)]
        yield images[start : start + size]
        start, turn = start + size, turn + 1


def _difference(run: Run, expected: Run, batch: NDArray[np.float32]) -> float:
    found, wanted = run(batch), expected(batch)
    if found.shape != wanted.shape:
        return float("inf")
    difference = float(np.abs(found.astype(np.float64) - wanted).max())
    return difference if np.isfinite(difference) else float("inf")
