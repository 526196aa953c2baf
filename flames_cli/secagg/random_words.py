"""Random words for noise: the key stream of AES-256 in counter mode under a key of the operating system."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

KEY_BYTES = 32
WORD_BYTES = 8


class RandomWords:
    """A source of random words: without its key, nobody can distinguish them from coin tosses or repeat them.

    The key is never stored. Two sources are independent; one source must not be used in two processes.
    """

    def __init__(self) -> None:
        self._stream = Cipher(AES(os.urandom(KEY_BYTES)), CTR(bytes(16))).encryptor()
        self._zeros = b""

    def __call__(self, n: int) -> NDArray[np.uint64]:
        """Return `n` new words of 64 bits."""
        size = n * WORD_BYTES
        if len(self._zeros) < size:
            self._zeros = bytes(size)
        return np.frombuffer(self._stream.update(memoryview(self._zeros)[:size]), "<u8")
