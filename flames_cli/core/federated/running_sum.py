"""Running sums of models in float64; a mean is cast back to the dtype of each entry.

Source: FedAvg (McMahan et al. 2017) for the weighted mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.blocks import Blocks, cast_into, compute, make_scratch, widen_into
from flames_cli.core.federated.differences import find_difference


class RunningSum:
    """Σ factor·weights in float64; needs memory for one model."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}
        self.total = 0.0

    def add(self, weights: Weights, factor: float) -> None:
        """Add `factor`·`weights`, and `factor` to the total."""
        self.total += factor
        known = {name: array for name, array in weights.items() if name in self._sums}
        new = {name: array for name, array in weights.items() if name not in self._sums}
        self._sums |= {name: np.empty(array.shape) for name, array in new.items()}

        def begin(blocks: Blocks) -> None:
            for values, sums in blocks:
                np.copyto(sums, values)
                np.multiply(sums, factor, out=sums)

        def go_on(blocks: Blocks) -> None:
            scratch = make_scratch()
            for values, sums in blocks:
                part = widen_into(scratch, values)
                np.multiply(part, factor, out=part)
                np.add(sums, part, out=sums)

        for work, entries in ((begin, new), (go_on, known)):
            compute(work, [(array, self._sums[name]) for name, array in entries.items()])

    def mean(self, like: Weights) -> Weights:
        """Return the sum divided by the total, each entry in the dtype of `like`."""
        means = {name: np.empty(array.shape, array.dtype) for name, array in like.items()}

        def divide(blocks: Blocks) -> None:
            scratch = make_scratch()
            for sums, out in blocks:
                cast_into(out, np.divide(sums, self.total, out=scratch[: sums.size]))

        compute(divide, [(self._sums[name], mean) for name, mean in means.items()])
        return means

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]


def cast(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `values` in `dtype`; for an integer dtype (BatchNorm's counters), round them first."""
    return np.asarray(np.rint(values) if np.issubdtype(dtype, np.integer) else values, dtype)


def weighted_mean(arrays: Sequence[Weights], weights: Sequence[float]) -> Weights:
    """Return Σ wᵢ·arraysᵢ / Σ wᵢ, entry by entry (FedAvg if wᵢ is the number of examples).

    Raises:
        ValueError: there is nothing to average, the lengths or entries differ, a weight is negative or not
            finite, or the weights sum to zero.
    """
    check_alike(arrays, weights)
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights {list(weights)} must be finite, not negative, and sum to more than 0")
    running = RunningSum()
    for entry, weight in zip(arrays, weights, strict=True):
        running.add(entry, float(weight))
    return running.mean(arrays[0])


def plain_mean(arrays: Sequence[Weights]) -> Weights:
    """Return the mean of models, entry by entry, each with the same weight.

    Raises:
        ValueError: there is nothing to average, or the entries differ.
    """
    return weighted_mean(arrays, [1.0] * len(arrays))


def check_alike(arrays: Sequence[Weights], counts: Sequence[float]) -> None:
    """Check that there is a count for each model, at least one model, and that all have the same entries.

    Raises:
        ValueError: the lengths or the entries differ, or there is no model.
    """
    if not arrays or len(arrays) != len(counts):
        raise ValueError(
            f"got {len(arrays)} sets of weights and {len(counts)} counts, expected the same, at least 1"
        )
    for index, entry in enumerate(arrays):
        if problem := find_difference(entry, arrays[0]):
            raise ValueError(f"weights {index} differ from weights 0: {problem}")
