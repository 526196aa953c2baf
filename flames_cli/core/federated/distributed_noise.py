"""Noise of clients, so that a secure sum is private and no server must be trusted to add noise.

Every client clips its update to an L2 norm of C, rounds it to integers (fixed point, f fractional bits), and
adds its share of discrete Gaussian noise, before its vector is masked (Kairouz, Liu & Steinke 2021). The
server, the other clients and all who see the model learn only the sum of updates and noise.

Why the account of continuous Gaussian noise is an upper bound of epsilon for this sum:

1. Sensitivity. An update of d numbers, in units of 2^-f, has a norm of at most C·2^f. Rounding to the nearest
   integer moves each number by at most 1/2, and the vector by at most √d/2. So one client changes the sum of
   integers by at most Δ = C·2^f + √d/2, and the noise is a multiple Z of Δ, not of C·2^f.

2. Poisson summation (Canonne, Kamath & Steinke 2020, facts 18 and 19). For each r and real y,
   Σ_{k∈ℤ} exp(−(k−y)²/(2r²)) = r√(2π)·(1 + θ), |θ| ≤ η(r) = 2·Σ_{j≥1} exp(−2π²r²j²).
   η(4) is below 10^-136: at these scales, a sum over the integers does not depend on where they are.

3. A sum of discrete Gaussians is one discrete Gaussian. For two of variances a and b,
   P(k) ∝ Σ_j exp(−j²/(2a)) exp(−(k−j)²/(2b)) = exp(−k²/(2(a+b)))·Σ_j exp(−(j − k·a/(a+b))²/(2r²)) with
   r² = ab/(a+b). By 2., the last sum is constant up to a factor of 1 ± η(r). Repeated for all clients, every
   probability changes by a factor of at most exp(±3Kη(r)) with r ≥ LEAST_SHARE/√2 (also Kairouz, Liu &
   Steinke 2021).

4. A discrete Gaussian is what a function makes of a continuous one. For x ∈ ℤ^d and y = x + N(0, s²), the
   random rounding of each number to k with probability ∝ exp(−(k−y)²/(2r²)) gives k with the probability
   ∫ φ_s(y−x)·exp(−(k−y)²/(2r²)) / (r√(2π)(1+θ(y))) dy, which is that of the discrete Gaussian around x with
   variance s² + r², up to a factor of exp(±3η(r)). Rounding does not depend on the clients' data given y, so
   (post-processing) the noise of variance σ² protects at least as well as continuous noise of variance
   σ² − r². SMOOTHING is r, and its square is added to the variance.

5. All d numbers of T releases together change probabilities by a factor of at most exp(±κ) with
   κ = 3(K+1)·d·T·η(4) < 10^-100. Epsilon grows by 2κ and delta by a factor of exp(κ): both are far below the
   last digit of a double, and nothing is added to delta. (The total variation distance to the rounded
   continuous Gaussian of the same variance is about √d/(34σ²) for each release, far more: the argument
   above is not by this distance.)

Conditions, and how they are met: at least `least` vectors are in an opened sum (clients decline to open a
smaller one); all vectors have the same weight (a weight would multiply the noise of its client too); each has
its share of noise. Nobody can check the last one: a client that adds no noise weakens the protection of all
clients, as much as if it revealed its share to the server. More vectors than `least` only add noise. A
client knows its own noise and can subtract it, so the shares are so large that those of the others are
enough. With c clients that work together, Z becomes Z·√((least − c)/(least − 1)).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.discrete_gaussian import LARGEST_VARIANCE, Words, draw_discrete_gaussian
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.core.federated.privacy import LEAST_VARIANCE
from flames_cli.core.federated.reports import Entries, floats_of, select
from flames_cli.core.federated.running_sum import cast
from flames_cli.core.federated.wire import as_received
from flames_cli.errors import FlamesError

SMOOTHING = 4
"""Standard deviation r of the random rounding in the derivation, in units of the integers."""

LEAST_SHARE = 6
"""Smallest standard deviation of a client's share, in units of the integers: r of step 3 is then above 4."""

_BELOW_ONE = 1 - 2.0**-30
"""Factor of the clip that is larger than the rounding errors of its computation in double precision."""

_TAILS = 12
"""Number of standard deviations that noise does not exceed, but with a probability below 10^-32."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class NoiseShares:
    """Sizes of the noise in a secure sum.

    Raises:
        FlamesError: the noise is too small for the integers, or does not fit them.
    """

    noise: float
    """Noise multiplier Z."""
    clip: float
    """Clipping norm C."""
    n_values: int
    """Number d of values of an update."""
    fraction: int
    """Fractional bits f."""
    bits: int
    """Bits of a word."""
    clients: int
    """Number of clients whose vectors may be in the sum."""
    least: int
    """Smallest number of vectors in a sum that is opened, 2 or more."""

    def __post_init__(self) -> None:
        given, share = f"--dp-noise {self.noise:g} with --dp-clip {self.clip:g}", self._deviation()
        if share < LEAST_SHARE:
            raise FlamesError(
                f"{given} gives each client noise of {share:.3g} units of 2^-{self.fraction}, expected at "
                f"least {LEAST_SHARE}; pass --wire-dtype fp32, which has smaller units, or a larger --dp-clip"
            )
        largest = self.clients * self.clip * 2.0**self.fraction + _TAILS * share * math.sqrt(self.clients)
        if largest >= 2.0 ** (self.bits - 1) or share * share >= LARGEST_VARIANCE:
            raise FlamesError(
                f"{given} gives sums of {self.clients} clients up to {largest:.3g} units, expected below "
                f"2^{self.bits - 1}; pass --wire-dtype fp32, which has wider words, or a smaller --dp-clip"
            )

    @property
    def sensitivity(self) -> float:
        """Largest norm Δ of a client's integers: C·2^f + √d/2."""
        return self.clip * 2.0**self.fraction + math.sqrt(self.n_values) / 2

    @property
    def variance(self) -> int:
        """Variance of a client's share: `least` − 1 of them have (Z·Δ)² + SMOOTHING²."""
        return math.ceil(self._deviation() ** 2)

    def _deviation(self) -> float:
        total = (self.noise * self.sensitivity) ** 2 + SMOOTHING**2
        return math.sqrt(total / (self.least - 1) * (1 + 1e-9))


def clipped_update(weights: Weights, start: Weights, clip: float) -> Weights:
    """Return the update from `start` to `weights` of all floats, in float64, with an L2 norm below `clip`.

    Args:
        weights: finite weights after the training.
        start: the weights that the client received: the same for all clients of its model group.
        clip: largest norm.
    """
    update = {
        name: array.astype(np.float64) - start[name].astype(np.float64)
        for name, array in floats_of(weights).items()
    }
    norm = math.sqrt(sum(float(np.vdot(array, array)) for array in update.values()))
    if norm > clip * _BELOW_ONE:
        for array in update.values():
            array *= clip * _BELOW_ONE / norm
    return update


def add_noise(words: NDArray[Any], variance: int, random_words: Words) -> None:
    """Add discrete Gaussian noise to unsigned integers in place, modulo their number of bits."""
    for start in range(0, words.size, _CHUNK):
        block = words[start : start + _CHUNK]
        noise = draw_discrete_gaussian(block.size, variance, random_words)
        np.add(block, noise.astype(words.dtype), out=block)


def private_mean(start: Weights, sums: Weights, clients: int, entries: Entries, wire: str) -> Weights:
    """Return the weights that clients received plus the mean of their noised updates.

    Running variances below LEAST_VARIANCE are raised, since noise can make them negative; integers and frozen
    entries are those of `start`. All this is computed from released numbers and costs no privacy.

    Args:
        start: the group's model before the round, its shared entries.
        sums: sum of the updates of all floats, with noise.
        clients: number of clients in the sums.
        entries: roles of the model's entries.
        wire: type in which models travel.
    """
    # Updates of statistics are measured from the received values, whose rounding may be larger than the clip.
    received = {**start, **as_received(statistics_of(floats_of(start)), wire)}
    mean = dict(start)
    for name, array in floats_of(start).items():
        if name not in entries.frozen:
            moved = cast(received[name].astype(np.float64) + sums[name] / clients, array.dtype)
            mean[name] = np.maximum(moved, LEAST_VARIANCE) if name in entries.variances else moved
    return mean


def private_entries(shared: Weights) -> Weights:
    """Return the entries of which updates are in the sum: all floats. Counters do not change."""
    return select(shared, floats_of(shared).keys())
