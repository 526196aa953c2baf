"""Masks: key streams of AES-256 in counter mode, added to a vector of words modulo 2^bits.

Each key has one stream, from counter 0, so that any part of it can be computed on its own.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from flames_cli.core.cores import available_cores
from flames_cli.secagg.fixed_point import Words
from flames_cli.secagg.keys import derive, pack

BLOCK = 1 << 17
"""Bytes of a stream that are computed in one step: a block of the vector and of the stream fit the cache."""

SHARE = 1 << 21
"""Smallest number of bytes for which a second thread is worth its start."""

MOST_THREADS = 2
"""Largest number of threads: `cryptography` and numpy compute without Python's lock."""

AES_BLOCK = 16


class Mask(NamedTuple):
    """A stream, whether it is subtracted, and how many times."""

    key: bytes
    minus: bool
    times: int = 1


def add_masks(words: Words, masks: Sequence[Mask]) -> None:
    """Add or subtract the stream of each mask in place, block by block."""
    n_threads = min(MOST_THREADS, _usable_cores(), max(1, words.nbytes // SHARE))
    step = -(-words.nbytes // n_threads // BLOCK) * BLOCK or BLOCK
    starts = range(0, words.nbytes, step)
    if len(starts) < 2:
        _add_to_part(words, masks, 0)
        return
    size = words.dtype.itemsize
    with ThreadPoolExecutor(len(starts)) as pool:
        parts = [
            pool.submit(_add_to_part, words[start // size : (start + step) // size], masks, start)
            for start in starts
        ]
        for part in parts:
            part.result()


def add_group_mask(words: Words, group_key: bytes, entry: str, times: int = 1) -> None:
    """Add the group's mask of one entry of a model to its words in place, or subtract it if `times` is < 0.

    The clients of a session know the key (`Participant.group_key`) and the server does not: what it opens of
    such entries is noise, from which a client subtracts the mask once for each client in the sum.
    """
    key = derive(group_key, pack(b"mask of an entry", entry.encode()))
    add_masks(words, [Mask(key, minus=times < 0, times=abs(times))])


def _add_to_part(words: Words, masks: Sequence[Mask], start: int) -> None:
    """Add the streams from byte `start` on to `words`."""
    streams = [
        (_open_stream(mask.key, start), np.subtract if mask.minus else np.add, mask.times) for mask in masks
    ]
    zeros, memory = memoryview(bytes(BLOCK)), bytearray(BLOCK + AES_BLOCK)
    step = BLOCK // words.dtype.itemsize
    for first in range(0, words.size, step):
        block = words[first : first + step]
        stream = np.frombuffer(memory, words.dtype, block.size)
        for context, add, times in streams:
            context.update_into(zeros[: block.nbytes], memory)
            if times != 1:
                np.multiply(stream, times, out=stream)
            add(block, stream, out=block)


def _open_stream(key: bytes, start: int) -> CipherContext:
    """Return the stream of a key from byte `start`, a multiple of 16."""
    return Cipher(AES(key), CTR((start // AES_BLOCK).to_bytes(AES_BLOCK, "big"))).encryptor()


@cache
def _usable_cores() -> int:
    return available_cores()
