"""The blend of FLAMES: personalised models and a server model (FLAMES, section 4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import RunningSum, cast, check_alike, in_blocks


def flames_alpha(n_clients: int) -> float:
    """Return a client's own share α = 0.1 + 1/K, at most 1.

    Source: FLAMES, section 4; without the limit, K = 1 would give 1.1.
    """
    return min(1.0, 0.1 + 1.0 / n_clients)


def blend_flames(
    arrays: Sequence[Weights], n_examples: Sequence[int], alpha: float | None = None
) -> tuple[list[Weights], Weights]:
    """Return (personalised models, server model) of the clients of one modality.

    personalisedᵢ = α·wᵢ + (1−α)·Σ_{j≠i} cᵢⱼ·wⱼ with cᵢⱼ = (1/nⱼ) / Σ_{l≠i} (1/n_l); the server model is the
    plain mean. The sums S = Σ wₖ/nₖ and T = Σ 1/nₖ make each model O(1): Σ_{j≠i} wⱼ/nⱼ = S − wᵢ/nᵢ.

    Args:
        arrays: weights of the K clients.
        n_examples: number of training images of each client, above 0.
        alpha: a client's own share, in [0, 1]; None: `flames_alpha(K)`. If K = 1, it is always 1.

    Raises:
        ValueError: there is nothing to blend, the entries differ, a number of images is not above 0, or
            alpha is outside [0, 1].
    """
    sums = FlamesSums(arrays, n_examples, alpha)
    server = sums.mean(arrays[0])
    return [sums.personalise(entry, n) for entry, n in zip(arrays, n_examples, strict=True)], server


class FlamesSums:
    """The two sums over all clients that every personalised model needs; arguments as in `blend_flames`."""

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
        """Return the server model, each entry in the dtype of `like`."""
        return self._plain.mean(like)

    def personalise(self, weights: Weights, n: int) -> Weights:
        """Return the model of the client that reported `weights`, trained on `n` images."""
        if self._alpha == 1.0:
            return {name: array.copy() for name, array in weights.items()}
        others = self._inverse.total - 1.0 / n
        shared = (1 - self._alpha) / others
        own = self._alpha - shared / n
        return {name: _mix(array, own, self._inverse[name], shared) for name, array in weights.items()}


def _mix(array: NDArray[Any], own: float, sums: Floats, shared: float) -> NDArray[Any]:
    """Return own·array + shared·sums, computed in float64, in the dtype of `array`."""
    mixed = np.empty(array.shape, array.dtype)
    for values, total, out in in_blocks(array, sums, mixed):
        part = np.multiply(values, own, dtype=np.float64)
        part += shared * total
        out[...] = cast(part, array.dtype)
    return mixed


class FlamesBlend(Blend):
    """A personalised model for each client; stores every report, since each becomes a model."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._blended: tuple[dict[str, Weights], Weights] | None = None

    def add(self, report: Report) -> None:
        """Store the report."""
        self._reports.append(report)

    def server(self) -> Weights:
        """Return the plain mean."""
        return self._blend()[1]

    def personal(self) -> dict[str, Weights]:
        """Return each client's blend of its own weights and those of the others."""
        return self._blend()[0]

    def _blend(self) -> tuple[dict[str, Weights], Weights]:
        if self._blended is None:
            # Sorted by name, so that the order of arrival does not change how sums are rounded.
            self._reports.sort(key=lambda report: report.client)
            counts = [report.n_examples for report in self._reports]
            sums = FlamesSums([report.weights for report in self._reports], counts)
            server, personal = sums.mean(self._reports[0].weights), {}
            while self._reports:  # freed one by one, so that memory never contains all reports and all models
                report = self._reports.pop(0)
                personal[report.client] = sums.personalise(report.weights, report.n_examples)
            self._blended = personal, server
        return self._blended
