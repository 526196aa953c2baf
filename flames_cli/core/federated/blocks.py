"""Arithmetic over large arrays in blocks that fit the processor's cache, on several cores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.cores import available_cores

BLOCK = 1 << 16
"""Number of values converted to float64 in one step, small enough for the processor's cache."""

SHARE = 1 << 20
"""Smallest number of values for which a thread of its own is worth its start."""

MOST_THREADS = 8
"""Largest number of threads: more of them wait for the memory."""

Blocks = Sequence[tuple[NDArray[Any], ...]]
"""Blocks of several arrays: each is a tuple with the same positions of all of them, as flat arrays."""

R = TypeVar("R")


def in_blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield blocks of up to BLOCK values from the same positions of all `arrays`, as flat arrays.

    Writing to a block changes its array if that array is C-contiguous.
    """
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, arrays[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def compute(work: Callable[[Blocks], R], groups: Iterable[tuple[NDArray[Any], ...]]) -> list[R]:
    """Call `work` with the blocks of all `groups` of arrays, and return its results, in order.

    Large arrays are shared out among threads, each of which gets neighbouring blocks: numpy computes without
    Python's lock. The function must treat every block on its own, so that their number changes no bit.
    """
    blocks = [block for group in groups for block in in_blocks(*group)]
    ends = list(accumulate(block[0].size for block in blocks))
    n_threads = min(_usable_cores(), MOST_THREADS, ends[-1] // SHARE) if ends and ends[-1] >= 2 * SHARE else 1
    if n_threads < 2:
        return [work(blocks)]
    cuts = [int(np.searchsorted(ends, part * ends[-1] / n_threads)) for part in range(n_threads)]
    shares = [blocks[start:end] for start, end in zip(cuts, [*cuts[1:], len(blocks)], strict=True)]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, shares))


@cache
def _usable_cores() -> int:
    return available_cores()  # reads files of the system, which takes a millisecond


def make_scratch() -> Floats:
    """Return memory for the values of a block."""
    return np.empty(BLOCK)


def widen_into(scratch: Floats, values: NDArray[Any]) -> Floats:
    """Return the `values` of a block as float64 in the memory of `scratch`."""
    wide = scratch[: values.size]
    np.copyto(wide, values)
    return wide


def cast_into(out: NDArray[Any], values: Floats) -> None:
    """Write `values` to `out` in its dtype; for an integer dtype (BatchNorm's counters), round them first."""
    out[...] = np.rint(values) if np.issubdtype(out.dtype, np.integer) else values
