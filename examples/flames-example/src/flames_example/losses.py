"""A loss for small lesions."""

import torch

ALPHA, BETA, POWER = 0.7, 0.3, 0.75
"""Factors of missed and of wrongly marked pixels, and the power that emphasises hard batches."""


def focal_tversky(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return the focal Tversky loss of a batch, in [0, 1] (Abraham and Khan 2019).

    A missed pixel costs more than one that is wrongly marked, so that small lesions are found.

    Args:
        probabilities: B×1×H×W, in [0, 1].
        masks: the same shape, 0 and 1.
    """
    p, t = probabilities.float(), masks.float()
    found, missed, wrong = (p * t).sum(), ((1 - p) * t).sum(), (p * (1 - t)).sum()
    index = (found + 1) / (found + ALPHA * missed + BETA * wrong + 1)
    # The slope of x^0.75 is infinite at 0, where a perfect batch would give NaN.
    return (1 - index).clamp_min(1e-6) ** POWER
