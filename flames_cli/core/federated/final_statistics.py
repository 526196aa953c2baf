"""BatchNorm's running statistics of final models, which training does not have: averaging changes weights.

The running means and variances of a blend are those of other weights. Each client therefore estimates them
for the final models on its own training images, and the server pools them for its own models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flames_cli.arrays import Weights

MEAN, VARIANCE = ".running_mean", ".running_var"
"""Ends of the names of BatchNorm's running statistics."""


@dataclass(frozen=True, slots=True)
class FinalStatistics:
    """Statistics of the models of one round; they replace entries of the same names where a model is used.

    Training never uses them, so that a run that continues has the same bits as one that was not interrupted.
    """

    clients: Mapping[str, Weights] = field(default_factory=dict)
    """Statistics of the model that each client received last, on its own images; if clients choose, the
    complete shared entries of the chosen model."""
    groups: dict[str, Weights] = field(default_factory=dict)
    """Statistics of the server's model of each group, over the images of the group's clients."""
    modalities: dict[str, Weights] = field(default_factory=dict)
    """Statistics of the model of all clients over the images of each modality; empty if there is no such
    model."""


def statistics_of(weights: Weights) -> Weights:
    """Return the running means and variances among `weights`."""
    return {name: array for name, array in weights.items() if name.endswith((MEAN, VARIANCE))}


def pool_statistics(parts: Sequence[tuple[Mapping[str, np.ndarray], int]]) -> Weights:
    """Return the statistics of all images together, from those of each client and its number of images.

    With n_k images, means m_k and variances v_k, the mean is m = Σ n_k·m_k / n and the variance
    Σ n_k·(v_k + m_k²) / n − m² (law of total variance). Entries are float64 inside and keep their dtype.

    Raises:
        ValueError: there are no parts, or no images.
    """
    total = sum(n for _, n in parts)
    if total <= 0:
        raise ValueError(f"got {len(parts)} parts with {total} images, expected at least one image")
    pooled: Weights = {}
    for name in (name for name in parts[0][0] if name.endswith(MEAN)):
        variance_name = name.removesuffix(MEAN) + VARIANCE
        means = [np.asarray(part[name], np.float64) for part, _ in parts]
        shares = [n / total for _, n in parts]
        mean = sum((share * one for share, one in zip(shares, means, strict=True)), np.zeros_like(means[0]))
        second = sum(
            (
                share * (np.asarray(part[variance_name], np.float64) + one * one)
                for share, one, (part, _) in zip(shares, means, parts, strict=True)
            ),
            np.zeros_like(mean),
        )
        pooled[name] = mean.astype(parts[0][0][name].dtype)
        variance = np.maximum(second - mean * mean, 0.0)
        pooled[variance_name] = variance.astype(parts[0][0][variance_name].dtype)
    return pooled
