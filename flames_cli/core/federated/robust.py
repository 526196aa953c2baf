"""Means that tolerate some bad reports, computed over K models with the same entries.

They weigh all clients equally, since a client could claim any number of images to get a larger weight.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.algorithm import Aggregation
from flames_cli.core.federated.blocks import in_blocks
from flames_cli.core.federated.reports import floats_of
from flames_cli.core.federated.running_sum import cast


def robust_mean(kind: Aggregation, models: Sequence[Weights], start: Weights, bad: int | None) -> Weights:
    """Return the robust mean of the models, each entry in its own dtype.

    Args:
        kind: median, trimmed-mean or krum.
        models: models of a round's good reports, in order of their clients' names; `shortage` gives None
            for their number.
        start: model from which the clients started.
        bad: number of models that may be bad; None: as `tolerated_bad` returns it.
    """
    if kind == "krum":
        chosen = models[krum(models, start, tolerated_bad(kind, len(models), bad))]
        return {name: array.copy() for name, array in chosen.items()}
    if kind == "trimmed-mean":
        cut = tolerated_bad(kind, len(models), bad)
        return _by_value(models, lambda values: np.sort(values, 0)[cut : len(values) - cut].mean(0))
    return _by_value(models, lambda values: np.median(values, 0))


def shortage(kind: Aggregation, n: int, bad: int | None) -> str | None:
    """Return why `n` reports are too few for this kind of mean; None if they are enough.

    A trimmed mean needs 2·bad + 1 reports (Yin et al. 2018), Krum 2·bad + 3 (Blanchard et al. 2017).
    """
    tolerated = tolerated_bad(kind, n, bad)
    least = {"krum": 2 * tolerated + 3, "trimmed-mean": 2 * tolerated + 1}.get(kind, 1)
    if n >= least:
        return None
    return f"{kind} needs {least} good reports to tolerate {tolerated} bad, there are {n}"


def tolerated_bad(kind: Aggregation, n: int, bad: int | None) -> int:
    """Return the number of bad reports among `n` that the mean tolerates.

    It is `bad` if given. Otherwise it is the largest number that Krum tolerates, or the number that a trimmed
    mean removes at either end: a fifth of `n`, and at least 1 if n ≥ 3.
    """
    if bad is not None:
        return bad
    if kind == "krum":
        return max((n - 3) // 2, 0)
    return max(n // 5, 1 if n >= 3 else 0)


def krum(models: Sequence[Weights], start: Weights, bad: int) -> int:
    """Return the index of the model that is nearest to its n − bad − 2 nearest other models.

    The measure is the sum of squared distances over all floats; among equal models the first one is chosen.

    Source: Blanchard et al. 2017, section 4.
    """
    n = len(models)
    products = np.zeros((n, n))
    for values, before in _floats(models, start):
        moved = values - before
        products += moved @ moved.T
    squares = np.diag(products)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : max(n - bad - 2, 1)]
    return int(nearest.sum(axis=1).argmin())


def _floats(models: Sequence[Weights], start: Weights) -> Iterator[tuple[Floats, Floats]]:
    """Yield blocks of B values of every float entry: K×B of the models, B of `start`."""
    for name, array in floats_of(start).items():
        for before, *values in in_blocks(array, *(model[name] for model in models)):
            yield np.stack(values).astype(np.float64), before.astype(np.float64)


def _by_value(models: Sequence[Weights], mean: Callable[[Floats], Floats]) -> Weights:
    """Return `mean` over the models, applied to each value separately."""
    means = {name: np.empty(array.shape, array.dtype) for name, array in models[0].items()}
    for name, out in means.items():
        for part, *values in in_blocks(out, *(model[name] for model in models)):
            part[...] = cast(mean(np.stack(values).astype(np.float64)), out.dtype)
    return means
