"""Stale reports of an asynchronous federation, moved onto the newest model."""

from dataclasses import replace

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.blocks import Blocks, cast_into, compute, make_scratch, widen_into
from flames_cli.core.federated.reports import Entries, Report


def rebase(report: Report, start: Weights, model: Weights, entries: Entries, weight: float) -> Report:
    """Return `report` as if its client had begun with the newest `model`, with its change scaled by `weight`.

    A parameter becomes w + s·(wₖ − startₖ), so that a mean of such reports moves the model by the mean of
    their weighted differences (FedBuff, Nguyen et al. 2022, algorithm 1). Another entry, such as a running
    variance of BatchNorm, becomes w + s·(wₖ − w): differences of variances could sum to less than 0. A fresh
    report (s = 1 and start = w) is unchanged.

    Args:
        report: report of the client, with the entries of `start`.
        start: shared entries of the model with which the client began.
        model: shared entries of the newest model.
        entries: roles of the entries.
        weight: weight s by staleness, in (0, 1].
    """
    if weight == 1.0 and all(np.array_equal(start[name], model[name]) for name in report.weights):
        return report
    moved = {name: np.empty(array.shape, array.dtype) for name, array in report.weights.items()}

    def shift(blocks: Blocks) -> None:
        scratch, newest = make_scratch(), make_scratch()
        for values, begun, current, out in blocks:
            change, base = widen_into(scratch, values), widen_into(newest, current)
            np.subtract(change, begun, out=change)
            np.multiply(change, weight, out=change)
            np.add(change, base, out=change)
            cast_into(out, change)

    arrays = [
        (array, start[name] if name in entries.trainable else model[name], model[name], moved[name])
        for name, array in report.weights.items()
    ]
    compute(shift, arrays)
    return replace(report, weights=moved)
