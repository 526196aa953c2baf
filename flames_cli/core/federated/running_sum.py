"""Sums of models in float64, one model at a time; each entry is cast back to its own dtype.

Source: FedAvg (McMahan et al. 2017) for the weighted mean.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.reports import find_difference

BLOCK = 1 << 16
"""Number of values that are converted to float64 at once, so that they stay in the processor's cache."""


class RunningSum:
    """Σ factor·weights in float64, one report at a time; memory of one model."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}
        self.total = 0.0

    def add(self, weights: Weights, factor: float) -> None:
        """Add `factor`·`weights`; the sum's total grows by `factor`."""
        self.total += factor
        for name, array in weights.items():
            if name not in self._sums:
                self._sums[name] = np.asarray(np.multiply(array, factor, dtype=np.float64, order="C"))
                continue
            for values, sums in in_blocks(array, self._sums[name]):
                sums += np.multiply(values, factor, dtype=np.float64)

    def mean(self, like: Weights) -> Weights:
        """The sum divided by the total, each entry in the dtype of `like`."""
        means = {name: np.empty(array.shape, array.dtype) for name, array in like.items()}
        for name, mean in means.items():
            for sums, out in in_blocks(self._sums[name], mean):
                out[...] = cast(sums / self.total, mean.dtype)
        return means

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]


def in_blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """BLOCK values at a time: the same places of all `arrays`, flat.

    Written to, they change those whose rows follow each other.
    """
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, arrays[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def cast(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` in `dtype`. Integers (BatchNorm's counters) are rounded, so that they keep their type."""
    return np.asarray(np.rint(values) if np.issubdtype(dtype, np.integer) else values, dtype)


def weighted_mean(arrays: Sequence[Weights], weights: Sequence[float]) -> Weights:
    """Σ wᵢ·arraysᵢ / Σ wᵢ, entry by entry (FedAvg where wᵢ is the number of examples).

    Raises:
        ValueError: nothing to average, lengths or entries that differ, a weight that is negative or not
            finite, or weights that sum to zero.
    """
    check_alike(arrays, weights)
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights {list(weights)} must be finite, not negative, and sum to more than 0")
    running = RunningSum()
    for entry, weight in zip(arrays, weights, strict=True):
        running.add(entry, float(weight))
    return running.mean(arrays[0])


def check_alike(arrays: Sequence[Weights], counts: Sequence[float]) -> None:
    """Check that there are as many counts as models, at least one, and that the models have equal entries.

    Raises:
        ValueError: the lengths or the entries differ, or nothing is given.
    """
    if not arrays or len(arrays) != len(counts):
        raise ValueError(
            f"got {len(arrays)} sets of weights and {len(counts)} counts, expected the same, at least 1"
        )
    for index, entry in enumerate(arrays):
        if problem := find_difference(entry, arrays[0]):
            raise ValueError(f"weights {index} differ from weights 0: {problem}")
