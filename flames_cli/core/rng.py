"""Randomness by scope: the same seed and scope give the same stream, whatever ran before.

After fedjax `core/client_samplers.py::get_pseudo_random_state`: no global generator, no shared state.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *scope: str | int) -> int:
    """A 63-bit seed for `scope`, such as `("augment", client, round, epoch, index)`.

    Each part carries its type and length into the hash, so ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *scope):
        encoded = str(part).encode()
        digest.update(f"{type(part).__name__}{len(encoded)}:".encode() + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


def derive_rng(seed: int, *scope: str | int) -> np.random.Generator:
    """A generator of its own for `scope` (see `derive_seed`)."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *scope)))
