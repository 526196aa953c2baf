"""Identity of a site towards the other sites: a key pair (Ed25519, RFC 8032) that only the site has made.

The server's operator may have made `node.key`, and can pass on any key between the sites. This key is made on
the node's own machine, and the sites compare its public part outside of FLAMES, so that a site detects keys
for secure aggregation that the server has exchanged.
"""

import re
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flames_cli.errors import FlamesError
from flames_cli.store.deployment.certificates import read_bytes
from flames_cli.store.files.atomic import write_private

PREFIX = "ed25519:"

_TEXT = re.compile(rf"{PREFIX}[0-9a-f]{{64}}")

_RAW = serialization.Encoding.Raw


def ensure_identity(path: Path) -> bool:
    """Write a new private key to `path`, readable only by its owner; return False if there is one already.

    Raises:
        FlamesError: the folder cannot be written.
    """
    if path.exists():
        return False
    key = Ed25519PrivateKey.generate()
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, encoded)
    return True


def identity_text(path: Path) -> str:
    """Return the public key that belongs to the private key in `path`: `ed25519:` and 64 hex digits.

    Raises:
        FlamesError: the file cannot be read, or is not such a key.
    """
    public = _read(path).public_key().public_bytes(_RAW, serialization.PublicFormat.Raw)
    return PREFIX + public.hex()


def signer(path: Path) -> Callable[[bytes], bytes]:
    """Return the function that signs with the private key in `path` (signatures of 64 bytes).

    Raises:
        FlamesError: the file cannot be read, or is not such a key.
    """
    return _read(path).sign


def parse_identity(text: str) -> bytes:
    """Return the 32 bytes of the public key that `identity_text` returned.

    Raises:
        FlamesError: the text has another form.
    """
    if not _TEXT.fullmatch(text):
        raise FlamesError(
            f"{text[:100]!r} is no identity of a site, expected {PREFIX} and 64 hex digits; "
            "copy the line that `flames deploy identity` shows at that site"
        )
    return bytes.fromhex(text.removeprefix(PREFIX))


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(read_bytes(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise FlamesError(
            f"{path} is not a site's identity (an Ed25519 key in PEM, no password); restore it from a "
            "backup, or move it away: the node makes a new one, which the other sites pin again"
        )
    return key
