"""The sums over a modality's clients from which FLAMES makes its personalised models (FLAMES, section 4)."""

from collections.abc import Sequence

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.blocks import Blocks, cast_into, compute, make_scratch, widen_into
from flames_cli.core.federated.choice import flames_alpha
from flames_cli.core.federated.running_sum import RunningSum, check_alike


class FlamesSums:
    """The two sums over all clients that every personalised model needs; arguments as in `blend_flames`.

    A number of images may be divided by a weight, as in `AgedReports`.
    """

    def __init__(
        self, arrays: Sequence[Weights], n_examples: Sequence[float], alpha: float | None = None
    ) -> None:
        check_alike(arrays, n_examples)
        if any(n <= 0 for n in n_examples):
            raise ValueError(f"numbers of examples {list(n_examples)} must all be above 0")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number in [0, 1]")
        self._n_clients = len(arrays)
        self._alpha = flames_alpha(len(arrays)) if alpha is None or len(arrays) == 1 else alpha
        self._inverse = RunningSum()
        for entry, n in zip(arrays, n_examples, strict=True):
            self._inverse.add(entry, 1.0 / n)

    def personalise(self, weights: Weights, n: float) -> Weights:
        """Return the model of the client that reported `weights`, trained on `n` images."""
        if self._alpha == 1.0:
            return {name: array.copy() for name, array in weights.items()}
        others = self._inverse.total - 1.0 / n
        shared = (1 - self._alpha) / others
        return self._blend(weights, self._alpha - shared / n, shared)

    def personalise_absent(self, weights: Weights) -> Weights:
        """Return the model of one more client, whose `weights` are not part of the sums."""
        alpha = flames_alpha(self._n_clients + 1)
        return self._blend(weights, alpha, (1 - alpha) / self._inverse.total)

    def _blend(self, weights: Weights, own: float, shared: float) -> Weights:
        """Return own·weights + shared·sums, computed in float64, in the dtypes of `weights`."""
        mixed = {name: np.empty(array.shape, array.dtype) for name, array in weights.items()}

        def mix(blocks: Blocks) -> None:
            scratch, of_others = make_scratch(), make_scratch()
            for values, sums, out in blocks:
                part = widen_into(scratch, values)
                np.multiply(part, own, out=part)
                np.add(part, np.multiply(sums, shared, out=of_others[: sums.size]), out=part)
                cast_into(out, part)

        compute(mix, [(array, self._inverse[name], mixed[name]) for name, array in weights.items()])
        return mixed
