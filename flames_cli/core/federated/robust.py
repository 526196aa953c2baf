"""Means that bear some bad reports: of each only the definition, over K models of the same entries.

They count every client alike, for what a client says of its number of images could buy it any weight.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.algorithm import Aggregation
from flames_cli.core.federated.reports import floats_of
from flames_cli.core.federated.running_sum import cast, in_blocks


def robust_mean(kind: Aggregation, models: Sequence[Weights], start: Weights, bad: int | None) -> Weights:
    """The `kind` of mean of the models (median, trimmed-mean, krum), each entry in its own dtype.

    Args:
        kind: one of the three.
        models: of a round's good reports, in order of their clients' names; as `lacks` asks for.
        start: what they started from.
        bad: how many of them may be bad; None: `tolerated_bad`.
    """
    if kind == "krum":
        chosen = models[krum(models, start, tolerated_bad(kind, len(models), bad))]
        return {name: array.copy() for name, array in chosen.items()}
    if kind == "trimmed-mean":
        cut = tolerated_bad(kind, len(models), bad)
        return _by_value(models, lambda values: np.sort(values, 0)[cut : len(values) - cut].mean(0))
    return _by_value(models, lambda values: np.median(values, 0))


def shortage(kind: Aggregation, n: int, bad: int | None) -> str | None:
    """Why a mean of this kind cannot be taken of `n` reports, or None.

    A trimmed mean needs more than 2·bad reports (Yin et al. 2018), Krum 2·bad + 3 (Blanchard et al. 2017).
    """
    borne = tolerated_bad(kind, n, bad)
    least = {"krum": 2 * borne + 3, "trimmed-mean": 2 * borne + 1}.get(kind, 1)
    if n >= least:
        return None
    return f"{kind} needs {least} good reports to bear {borne} bad, there are {n}"


def tolerated_bad(kind: Aggregation, n: int, bad: int | None) -> int:
    """How many of `n` reports may be bad: what is asked for, else all that Krum bears, a fifth (one at least
    where there are three) that a trimmed mean cuts off at either end."""
    if bad is not None:
        return bad
    if kind == "krum":
        return max((n - 3) // 2, 0)
    return max(n // 5, 1 if n >= 3 else 0)


def krum(models: Sequence[Weights], start: Weights, bad: int) -> int:
    """The index of the model nearest to its n − bad − 2 nearest others, by the sum of squared distances over
    all floats; the first of equals.

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
    """Blocks of every float entry: (K×B of the models, B of the start)."""
    for name, array in floats_of(start).items():
        for before, *values in in_blocks(array, *(model[name] for model in models)):
            yield np.stack(values).astype(np.float64), before.astype(np.float64)


def _by_value(models: Sequence[Weights], mean: Callable[[Floats], Floats]) -> Weights:
    """`mean` over the models, value by value."""
    means = {name: np.empty(array.shape, array.dtype) for name, array in models[0].items()}
    for name, out in means.items():
        for part, *values in in_blocks(out, *(model[name] for model in models)):
            part[...] = cast(mean(np.stack(values).astype(np.float64)), out.dtype)
    return means
