"""Random numbers by scope: the same seed and scope give the same stream, whatever ran before.

There is no global generator and no shared state, as in fedjax
`core/client_samplers.py::get_pseudo_random_state`.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *scope: str | int) -> int:
    """Return a 63-bit seed for `scope`, such as `("augment", client, round, epoch, index)`.

    The type and the length of each part enter the hash, so ("ab", "c") and ("a", "bc") give different seeds.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *scope):
        encoded = str(part).encode()
        digest.update(f"{type(part).__name__}{len(encoded)}:".encode() + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


def derive_rng(seed: int, *scope: str | int) -> np.random.Generator:
    """Return a new generator for `scope` (see `derive_seed`)."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *scope)))
