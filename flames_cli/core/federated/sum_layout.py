"""The vector that each client adds to a secure sum: its weights times a factor, and numbers; and back.

The vector has factor·w for all shared entries in the model's order, then, if asked for, w itself, then the
factor, then some numbers. Sums of such vectors are all that a server sees in a run with secure aggregation.

If the vector has w itself, the clients hide the first part from the server: from Σ cᵤ·wᵤ and Σ wᵤ together,
it could compute a sum without any client that it chooses, which with three clients is a sum of two.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.blocks import BLOCK

INTEGER_UNIT = 2.0**8
"""Integers (BatchNorm's counters) are divided by it, since they are far larger than weights."""

Read = Callable[[int, int], Floats]
"""read(start, end) returns the sums of the vectors' values from start to end, in float64."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the clients u of a group, with their factors c and weights w, in float64."""

    weighted: Weights
    """Σ cᵤ·wᵤ by entry; empty if it is hidden."""
    plain: Weights
    """Σ wᵤ by entry; empty if it was not asked for."""
    factor: float
    """Σ cᵤ."""
    numbers: Floats
    """Sum of each number."""
    hidden: Weights = field(default_factory=dict)
    """Words of Σ cᵤ·wᵤ by entry, with the group's mask of each client, if the vector has w itself."""
    session: str = ""
    """Identifier of the session of the sum, whose key reads the hidden part."""


@dataclass(frozen=True, slots=True)
class SumLayout:
    """Places of a model's entries and of the numbers in the vector."""

    entries: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
    """Name, shape and dtype of each shared entry, in the model's order."""
    with_plain: bool
    """True if the vector also has the weights without the factor; those with it are then hidden."""
    n_numbers: int

    @classmethod
    def of(cls, weights: Weights, with_plain: bool, n_numbers: int) -> "SumLayout":
        """Return the layout for the shared entries `weights`."""
        entries = tuple((name, array.shape, array.dtype) for name, array in weights.items())
        return cls(entries, with_plain, n_numbers)

    @property
    def n_weights(self) -> int:
        """Number of values of the shared entries."""
        return sum(prod(shape) for _, shape, _ in self.entries)

    @property
    def size(self) -> int:
        """Number of values of the vector."""
        return (2 if self.with_plain else 1) * self.n_weights + 1 + self.n_numbers

    def parts(
        self, weights: Weights, factor: float, numbers: Sequence[float]
    ) -> Iterator[tuple[str, NDArray[Any], float]]:
        """Yield the vector as parts that follow each other: name, flat values, and a factor for all of them.

        Raises:
            ValueError: there is another number of `numbers`.
        """
        if len(numbers) != self.n_numbers:
            raise ValueError(f"got {len(numbers)} numbers, expected {self.n_numbers}")
        for scale in (factor, 1.0) if self.with_plain else (factor,):
            for name, _, dtype in self.entries:
                unit = scale / INTEGER_UNIT if _counts(dtype) else scale
                yield f"'{name}'", np.ascontiguousarray(weights[name]).reshape(-1), unit
        yield "the numbers of the report", np.array([factor, *numbers], np.float64), 1.0

    def hidden(self, words: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield name and words of each entry that is hidden, as parts of the vector `words`."""
        start = 0
        for name, shape, _ in self.entries if self.with_plain else ():
            yield name, words[start : start + prod(shape)]
            start += prod(shape)

    def read(self, read: Read, words: NDArray[Any]) -> Sums:
        """Return the sums of the vector `words`, which `read` gives as numbers piece by piece."""
        n = self.n_weights
        end = (2 if self.with_plain else 1) * n
        shapes = {name: shape for name, shape, _ in self.entries}
        return Sums(
            weighted={} if self.with_plain else self._entries(read, 0),
            hidden={name: part.reshape(shapes[name]).copy() for name, part in self.hidden(words)},
            plain=self._entries(read, n) if self.with_plain else {},
            factor=float(read(end, end + 1)[0]),
            numbers=read(end + 1, end + 1 + self.n_numbers),
        )

    def _entries(self, read: Read, start: int) -> Weights:
        sums: Weights = {}
        for name, shape, dtype in self.entries:
            found = np.empty(prod(shape), np.float64)
            for at in range(0, found.size, BLOCK):
                stop = min(at + BLOCK, found.size)
                found[at:stop] = read(start + at, start + stop)
            sums[name] = (found * INTEGER_UNIT if _counts(dtype) else found).reshape(shape)
            start += found.size
        return sums


def _counts(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.integer)


def unit_of(dtype: np.dtype[Any]) -> float:
    """Return the number by which the decoded sum of an entry of this dtype is multiplied."""
    return INTEGER_UNIT if _counts(dtype) else 1.0
