"""Exact samples of the discrete Gaussian distribution: P(k) is proportional to exp(−k²/(2σ²)), k an integer.

Rejection sampling as in Canonne, Kamath & Steinke 2020: proposals come from a discrete Laplace distribution
in blocks of equal probability. Every random decision compares a uniform real number with exp(−γ), γ rational.
The first 64 bits of the number and double precision decide it, except if they are too close; then the number
gets more bits, and exp(−γ) more digits, until the comparison is certain. So the distribution is exact if the
random bits are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Words = Callable[[int], NDArray[np.uint64]]
"""words(n) returns n random numbers of 64 bits that were never returned before."""

MARGIN = 2.0**-38
"""Relative distance below which double precision does not decide a comparison. Its error is below 2^-43:
the exponents that matter are at most 90, with some units in the last place (2^-52)."""

_CHUNK = 1 << 15
"""Number of proposals in one step, small enough for the processor's cache."""

_LEAST_WORD = 1 << 40
"""Smallest first word whose logarithm is known with an error far below MARGIN."""

LARGEST_VARIANCE = 2**110
"""Variance below which samples fit 64 bits."""


class _Uniform:
    """A uniform real number in [0, 1), of which as many bits are drawn as comparisons need."""

    def __init__(self, first: int, words: Words) -> None:
        self._bits, self._n, self._words = first, 64, words

    def is_below_exp(self, exponent: Fraction) -> bool:
        """Return whether the number is below exp(−exponent); `exponent` is 0 or more."""
        while True:
            low, high = _exp_bounds(exponent, self._n)
            if self._bits + 1 <= low:
                return True
            if self._bits >= high:
                return False
            self._bits, self._n = (self._bits << 64) | int(self._words(1)[0]), self._n + 64


def _exp_bounds(exponent: Fraction, bits: int) -> tuple[int, int]:
    """Return integers below and above exp(−exponent)·2^bits."""
    digits = 40 + bits  # far more than needed: a unit in the last place is below 2^-bits in any case
    with localcontext() as context:
        context.prec = digits
        exact = (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * 2**bits
        error = exact * Decimal(10) ** (20 - digits)
        return math.floor(exact - error), math.ceil(exact + error)


@dataclass(frozen=True)
class _Proposals:
    """Blocks of 2^shift integers, whose probability falls by exp(−rate) from each to the next."""

    variance: int
    shift: int
    rate: Fraction

    @classmethod
    def of(cls, variance: int) -> "_Proposals":
        """Return blocks of at most a quarter of the standard deviation, falling as fast as fits it best."""
        deviation = math.sqrt(variance)
        shift = max(0, math.floor(math.log2(deviation)) - 2)
        return cls(variance, shift, Fraction(max(1, round(16 * 2**shift / deviation)), 16))

    @property
    def excess(self) -> Fraction:
        """Smallest number that makes every `exponent` 0 or more."""
        return Fraction(self.rate * self.rate * self.variance, 2 * 4**self.shift)

    def exponent(self, value: int, block: int) -> Fraction:
        """Return γ; exp(−γ) is the probability to accept `value`, which was proposed from `block`."""
        return Fraction(value * value, 2 * self.variance) - self.rate * block + self.excess

    def draw(self, n: int, words: Words) -> NDArray[np.int64]:
        """Return the accepted of `n` proposals."""
        places, of_block, of_test = words(n), words(n), words(n)
        blocks = self._blocks(of_block, words)
        inside = places & np.uint64(2**self.shift - 1)
        values = (blocks << self.shift) + inside.astype(np.int64)
        keep = self._accepted(values, blocks, of_test, words)
        negative = places >= np.uint64(1 << 63)
        keep &= ~(negative & (values == 0))  # 0 would count twice
        return np.where(negative, -values, values)[keep]

    def _blocks(self, first: NDArray[np.uint64], words: Words) -> NDArray[np.int64]:
        """Return numbers V of blocks: V ≥ k if a uniform number is below exp(−k·rate)."""
        with np.errstate(divide="ignore"):
            exact = (64 * math.log(2) - np.log(first.astype(np.float64))) / float(self.rate)
        near = np.abs(exact - np.rint(exact)) <= MARGIN * np.maximum(exact, 1.0)
        unsure = near | (first < np.uint64(_LEAST_WORD))
        blocks = np.where(unsure, 0.0, exact).astype(np.int64)
        for at in np.flatnonzero(unsure):
            number, block = _Uniform(int(first[at]), words), 0
            while number.is_below_exp((block + 1) * self.rate):
                block += 1
            blocks[at] = block
        return blocks

    def _accepted(
        self,
        values: NDArray[np.int64],
        blocks: NDArray[np.int64],
        first: NDArray[np.uint64],
        words: Words,
    ) -> NDArray[np.bool_]:
        """Return which values are accepted."""
        exponents = np.square(values / math.sqrt(2 * self.variance))
        exponents += float(self.excess) - float(self.rate) * blocks
        limits = np.exp(-exponents) * 2.0**64
        distance = limits - first.astype(np.float64)
        accepted = distance > 0
        for at in np.flatnonzero(np.abs(distance) <= MARGIN * limits + 2):
            exponent = self.exponent(int(values[at]), int(blocks[at]))
            accepted[at] = _Uniform(int(first[at]), words).is_below_exp(exponent)
        return accepted


def draw_discrete_gaussian(n: int, variance: int, words: Words) -> NDArray[np.int64]:
    """Return `n` independent samples of the discrete Gaussian distribution with σ² = `variance`.

    Args:
        n: number of samples.
        variance: σ², an integer from 1 to 2^110.
        words: source of random bits.

    Raises:
        ValueError: the variance is outside its limits.
    """
    if not 1 <= variance < LARGEST_VARIANCE:
        raise ValueError(f"the variance of discrete Gaussian noise is {variance}, expected 1 to 2^110")
    proposals, samples, done = _Proposals.of(variance), np.empty(n, np.int64), 0
    while done < n:
        # Some more than needed: about two thirds are accepted.
        found = proposals.draw(min(_CHUNK, (n - done) * 8 // 5 + 16), words)[: n - done]
        samples[done : done + found.size] = found
        done += found.size
    return samples
