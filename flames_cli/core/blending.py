"""Models out of models: running sums in float64, each entry cast back to its own dtype.

Sources: FLAMES (section 4, personalisation and generalisation) and FedAvg (McMahan et al. 2017).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.reports import Report, find_difference

BLOCK = 1 << 16
"""Values that are worked on at once in float64, so that they stay in the processor's cache."""


class Blend(ABC):
    """Takes good reports one at a time, at least one, in any order; then says what they amount to."""

    def refuse(self, report: Report) -> str | None:  # noqa: ARG002 (of those that look)
        """Why a report that is good in itself cannot be taken in, or None."""
        return None

    @abstractmethod
    def add(self, report: Report) -> None:
        """Take in a report."""

    def lacks(self) -> str | None:
        """Why the reports taken in are too few to be blended, or None."""
        return None

    @abstractmethod
    def server(self) -> Weights:
        """The entries reported, blended."""

    def personal(self) -> dict[str, Weights]:
        """By client: the entries that it has of its own from now on."""
        return {}


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
    _check_alike(arrays, weights)
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights {list(weights)} must be finite, not negative, and sum to more than 0")
    running = RunningSum()
    for entry, weight in zip(arrays, weights, strict=True):
        running.add(entry, float(weight))
    return running.mean(arrays[0])


def flames_alpha(n_clients: int) -> float:
    """A client's own share, 0.1 + 1/K, never above 1 (FLAMES, section 4; uncapped, K = 1 gives 1.1)."""
    return min(1.0, 0.1 + 1.0 / n_clients)


def blend_flames(
    arrays: Sequence[Weights], n_examples: Sequence[int], alpha: float | None = None
) -> tuple[list[Weights], Weights]:
    """FLAMES for the clients of one modality: (personalised models, server model).

    personalisedᵢ = α·wᵢ + (1−α)·Σ_{j≠i} cᵢⱼ·wⱼ with cᵢⱼ = (1/nⱼ) / Σ_{l≠i} (1/n_l); the server model is the
    plain mean. From the sums S = Σ wₖ/nₖ and T = Σ 1/nₖ each is O(1): Σ_{j≠i} wⱼ/nⱼ = S − wᵢ/nᵢ.

    Args:
        arrays: the K clients' weights.
        n_examples: their numbers of training images, each above 0.
        alpha: own share in [0, 1]; None means `flames_alpha(K)`. With K = 1 there is nobody else: it is 1.

    Raises:
        ValueError: nothing to blend, entries that differ, a count not above 0, alpha outside [0, 1].
    """
    sums = FlamesSums(arrays, n_examples, alpha)
    server = sums.mean(arrays[0])
    return [sums.personalise(entry, n) for entry, n in zip(arrays, n_examples, strict=True)], server


class FlamesSums:
    """What `blend_flames` needs to know of all clients to make any one's model; arguments as there."""

    def __init__(
        self, arrays: Sequence[Weights], n_examples: Sequence[int], alpha: float | None = None
    ) -> None:
        _check_alike(arrays, n_examples)
        if any(n <= 0 for n in n_examples):
            raise ValueError(f"numbers of examples {list(n_examples)} must all be above 0")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number in [0, 1]")
        self._alpha = flames_alpha(len(arrays)) if alpha is None or len(arrays) == 1 else alpha
        self._inverse, self._plain = RunningSum(), RunningSum()
        for entry, n in zip(arrays, n_examples, strict=True):
            self._inverse.add(entry, 1.0 / n)
            self._plain.add(entry, 1.0)

    def mean(self, like: Weights) -> Weights:
        """The server model, each entry in the dtype of `like`."""
        return self._plain.mean(like)

    def personalise(self, weights: Weights, n: int) -> Weights:
        """The model of the client that reported `weights` of `n` examples."""
        if self._alpha == 1.0:
            return {name: array.copy() for name, array in weights.items()}
        others = self._inverse.total - 1.0 / n
        shared = (1 - self._alpha) / others
        own = self._alpha - shared / n
        return {name: _mix(array, own, self._inverse[name], shared) for name, array in weights.items()}


def _mix(array: NDArray[Any], own: float, sums: Floats, shared: float) -> NDArray[Any]:
    """own·array + shared·sums in float64, in the dtype of `array`."""
    mixed = np.empty(array.shape, array.dtype)
    for values, total, out in in_blocks(array, sums, mixed):
        part = np.multiply(values, own, dtype=np.float64)
        part += shared * total
        out[...] = cast(part, array.dtype)
    return mixed


def _check_alike(arrays: Sequence[Weights], counts: Sequence[float]) -> None:
    if not arrays or len(arrays) != len(counts):
        raise ValueError(
            f"got {len(arrays)} sets of weights and {len(counts)} counts, expected the same, at least 1"
        )
    for index, entry in enumerate(arrays):
        if problem := find_difference(entry, arrays[0]):
            raise ValueError(f"weights {index} differ from weights 0: {problem}")
