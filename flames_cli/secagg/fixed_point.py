"""Real numbers as integers modulo 2^bits, so that masks cancel exactly.

A value x becomes round(x·2^fraction), to the nearest integer (ties to even), in two's complement. A sum of n
such words differs from the sum of the n float64 values by at most n·2^-(fraction+1).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.federated.blocks import Blocks, compute, make_scratch
from flames_cli.secagg.errors import Declined

Words = NDArray[np.unsignedinteger[Any]]
"""Vector of unsigned integers modulo 2^32 or 2^64, little-endian."""


@dataclass(frozen=True)
class FixedPoint:
    """Words of 32 or 64 bits, of which the last `fraction` are after the binary point."""

    bits: int
    fraction: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned type of the words, little-endian."""
        return np.dtype(f"<u{self.bits // 8}")

    def bound(self, clients: int) -> float:
        """Return the largest absolute value that each of `clients` may encode: their sum cannot overflow."""
        return self._limit(clients) / 2.0**self.fraction

    def error(self, clients: int) -> float:
        """Return the largest error of a decoded sum of `clients` vectors."""
        return clients * 2.0 ** -(self.fraction + 1)

    def encode_into(
        self, words: Words, values: NDArray[Any], factor: float, clients: int, entry: str
    ) -> None:
        """Write `factor`·`values` to `words`, which are contiguous and as many.

        Raises:
            Declined: a value is not finite, or beyond `bound(clients)`; the message names `entry`.
        """
        if words.size != values.size or words.dtype != self.dtype:
            raise ValueError(f"{words.size} words of {words.dtype} cannot take {values.size} of {self.dtype}")
        scale, limit = factor * 2.0**self.fraction, self._limit(clients)
        signed = words.view(words.dtype.str.replace("u", "i"))

        def encode(blocks: Blocks) -> bool:
            scratch = make_scratch()
            for block, out in blocks:
                numbers = np.multiply(block, scale, out=scratch[: block.size], dtype=np.float64)
                np.rint(numbers, out=numbers)
                if not (-limit <= numbers.min() and numbers.max() <= limit):  # also if one is NaN
                    return False
                np.copyto(out, numbers, casting="unsafe")
            return True

        with np.errstate(invalid="ignore", over="ignore"):
            fits = all(compute(encode, [(values, signed)]))
        if not fits:
            largest = float(np.max(np.abs(np.asarray(values, np.float64) * factor)))
            raise Declined(
                f"the largest absolute value of {entry} is {largest:.6g}, expected a finite number up to "
                f"{self.bound(clients):.6g} (words of {self.bits} bits, {clients} clients); train with a "
                "lower --lr, or send the weights with --wire-dtype fp32, which has wider words"
            )

    def decode(self, words: Words) -> Floats:
        """Return the signed numbers in `words` as float64."""
        signed = words.view(words.dtype.str.replace("u", "i"))
        values = np.empty(words.shape)

        def scale(blocks: Blocks) -> None:
            for block, out in blocks:
                np.multiply(block, 2.0**-self.fraction, out=out, dtype=np.float64)

        compute(scale, [(signed, values)])
        return values

    def _limit(self, clients: int) -> float:
        """Return the largest encoded absolute value: a float64 that is an integer."""
        exact = (2 ** (self.bits - 1) - 1) // clients
        limit = float(exact)
        return limit if int(limit) <= exact else float(np.nextafter(limit, 0))


FIXED_POINTS = {64: FixedPoint(64, 36), 32: FixedPoint(32, 16)}
"""Words by their number of bits: 64 for weights in float32, 32 for weights in 16 bits."""
