"""Key pair by which a server identifies its node: elliptic curve P-384, in OpenSSH's format, which Flower
uses."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flames_cli.errors import FlamesError
from flames_cli.store.deployment.certificates import read_bytes
from flames_cli.store.files.atomic import replacing, write_private

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)

_SSH = serialization.Encoding.OpenSSH


def make_node_keys(private: Path, public: Path) -> None:
    """Write a new key pair; the private key is readable only by its owner.

    Raises:
        FlamesError: a key exists already (it is never overwritten), or the folder cannot be written.
    """
    for path in (private, public):
        if path.exists():
            raise FlamesError(f"{path} exists already and is not overwritten; choose another folder")
    key = ec.generate_private_key(ec.SECP384R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_private(private, encoded)
    write_public_key(public, _encode(key.public_key()))


def write_public_key(path: Path, key: bytes) -> None:
    """Write a public key that `read_public_key` returned."""
    with replacing(path) as temporary:
        temporary.write_bytes(key + b"\n")


def read_public_key(path: Path) -> bytes:
    """Return a node's public key in OpenSSH's format, without its comment: equal keys are equal bytes.

    Raises:
        FlamesError: it cannot be read, is a private key, or has another type.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise FlamesError(
            f"{path} is a private key, which never leaves its site; pass the public key next to it (node.pub)"
        )
    try:
        key = serialization.load_ssh_public_key(content)
    except _UNREADABLE as error:
        raise FlamesError(_unusable(path, "public")) from error
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)):
        raise FlamesError(_unusable(path, "public"))
    return _encode(key)


def public_key_of(private: Path) -> bytes:
    """Return the public key of a node's private key, in the format of `read_public_key`.

    Raises:
        FlamesError: it cannot be read or has another type.
    """
    try:
        key = serialization.load_ssh_private_key(read_bytes(private), password=None)
    except _UNREADABLE as error:
        raise FlamesError(_unusable(private, "private")) from error
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)):
        raise FlamesError(_unusable(private, "private"))
    return _encode(key.public_key())


def public_key_pem(private: Path) -> bytes:
    """Return the public key of a node's private key in PEM, as Flower's server stores it.

    Raises:
        FlamesError: it cannot be read or has another type.
    """
    key = serialization.load_ssh_public_key(public_key_of(private))
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _encode(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(_SSH, serialization.PublicFormat.OpenSSH)


def _unusable(path: Path, kind: str) -> str:
    return (
        f"{path} is not a node's {kind} key (elliptic curve P-384, OpenSSH's format, no password); "
        "make a pair with `flames deploy key`"
    )
