"""Keys of a session: X25519 pairs, keys derived from them, and signatures of the clients' identities.

Sources: RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8032 (Ed25519). The primitives are those of `cryptography`.
"""

import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
"""Size of private, public and derived keys."""
SIGNATURE_BYTES = 64


def make_secret() -> bytes:
    """Return 32 bytes of the system's generator: a private key, or the seed of a client's own mask."""
    return os.urandom(KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """Return the X25519 public key of a private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """Return the secret that two X25519 pairs share.

    Raises:
        ValueError: the public key is one of the few that give everybody the same secret.
    """
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def is_usable(public: bytes) -> bool:
    """Return whether a public key has the right size and is none of those that give everybody one secret."""
    try:
        agree(make_secret(), public)
    except ValueError:
        return False
    return True


def derive(secret: bytes, info: bytes) -> bytes:
    """Return a key for one purpose, which `info` describes completely (HKDF-SHA256 without a salt)."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def pack(*parts: bytes) -> bytes:
    """Return the parts as one text, each after its length, so that no two lists of parts give the same."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def is_signed(message: bytes, signature: bytes, identity: bytes) -> bool:
    """Return whether the owner of the Ed25519 public key `identity` has signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
