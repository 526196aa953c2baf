"""Boxes that one client makes for another, which the server forwards and cannot open or change.

The box is ChaCha20-Poly1305 (RFC 8439) with a fresh nonce, under a key that both clients derive.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NONCE_BYTES = 12
TAG_BYTES = 16


def seal(key: bytes, text: bytes, context: bytes) -> bytes:
    """Return nonce and encrypted text; `context` is not in it, but a box opens with the same context only."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, text, context)


def unseal(key: bytes, box: bytes, context: bytes) -> bytes | None:
    """Return the text of a box, or None if key, box or context are not those with which it was made."""
    if len(box) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return ChaCha20Poly1305(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], context)
    except InvalidTag:
        return None
