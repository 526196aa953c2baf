"""A client's vector in the pass after the last round with secure aggregation: BatchNorm's moments, and its
validation."""

import numpy as np
from flwr.app import Message

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import MEAN, VARIANCE
from flames_cli.core.federated.pooled_numbers import NAMES, to_parts
from flames_cli.core.federated.sum_layout import SumLayout, Sums
from flames_cli.fed.final_report import FinalReport
from flames_cli.fed.messages import Profile
from flames_cli.fed.secure.client import ClientSession, factor_of

RECEIVED = "received_"
"""Start of the names of validations in `pooled_numbers`, which those of final models do not have."""


def moments_layout(moments: Weights) -> SumLayout:
    """Return the vector of a client in this pass."""
    return SumLayout.of(moments, False, len(NAMES))


def to_moments(statistics: Weights) -> Weights:
    """Return means and second moments, in float64 and in order of their names, of means and variances."""
    found: Weights = {}
    for name, array in sorted(statistics.items()):
        wide = array.astype(np.float64)
        if name.endswith(VARIANCE):
            wide = wide + statistics[name.removesuffix(VARIANCE) + MEAN].astype(np.float64) ** 2
        found[name] = wide
    return found


def from_moments(sums: Sums, like: Weights) -> Weights:
    """Return the statistics of all images together, from the sums of the clients' moments."""
    found: Weights = {}
    for name, array in like.items():
        value = sums.weighted[name] / sums.factor
        if name.endswith(VARIANCE):
            mean = sums.weighted[name.removesuffix(VARIANCE) + MEAN] / sums.factor
            value = np.maximum(value - mean**2, 0.0)
        found[name] = value.astype(array.dtype)
    return found


def mask_final(session: ClientSession, report: FinalReport, profile: Profile, message: Message) -> Message:
    """Return the client's reply: the masked vector of its moments and its validation."""
    moments = to_moments(report.server or report.own)
    numbers = {
        (f"{RECEIVED}{name}" if name.startswith("val_") else name): value
        for name, value in report.validation.items()
    }
    words = session.mask(
        moments_layout(moments),
        moments,
        factor_of(session.terms, report.n_examples),
        to_parts(numbers, session.terms.images),
    )
    return session.report(words, profile, message)
