"""The personalised models of FLAMES and its server model (FLAMES, section 4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.running_sum import RunningSum, cast, check_alike, in_blocks


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
        check_alike(arrays, n_examples)
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
