"""Messages of a session between clients and server; the masked vectors are sent as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flames_cli.secagg.json_bytes import Reader, to_bytes, write_json
from flames_cli.secagg.keys import KEY_BYTES, SIGNATURE_BYTES
from flames_cli.secagg.shamir import SHARE_BYTES

DIGEST_BYTES = 32
MOST_BOX_BYTES = 1000


@dataclass(frozen=True)
class Advert:
    """A client's two public keys of a session, and its identity's signature of them (empty without one)."""

    client: str
    encryption_key: bytes
    mask_key: bytes
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the advert for a message."""
        return write_json(vars(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Advert":
        """Return the advert of a message.

        Raises:
            Declined: it has other contents.
        """
        with Reader(data, "an advert of keys") as read:
            signature = read.bytes("signature")
            if len(signature) not in (0, SIGNATURE_BYTES):
                raise ValueError("signature")
            return cls(
                read.text("client"),
                read.bytes("encryption_key", KEY_BYTES),
                read.bytes("mask_key", KEY_BYTES),
                signature,
            )


@dataclass(frozen=True)
class SealedShares:
    """One client's shares for one other: the box, and the commitments to the two shares in it."""

    box: bytes
    key_commitment: bytes
    seed_commitment: bytes


@dataclass(frozen=True)
class Dealing:
    """A client's shares for all clients of the session, and its commitment to the seed of its own mask.

    `own` has the commitments to the two shares that the client holds itself.
    """

    seed_commitment: bytes
    sealed: Mapping[str, SealedShares]
    own: tuple[bytes, bytes]

    def to_bytes(self) -> bytes:
        """Return the dealing for a message."""
        sealed = _write_sealed(self.sealed)
        return write_json({"seed_commitment": self.seed_commitment, "sealed": sealed, "own": list(self.own)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Dealing":
        """Return the dealing of a message.

        Raises:
            Declined: it has other contents.
        """
        with Reader(data, "a dealing of shares") as read:
            key, seed = (to_bytes(one, DIGEST_BYTES) for one in read.value("own"))
            return cls(
                read.bytes("seed_commitment", DIGEST_BYTES), _read_sealed(read.table("sealed")), (key, seed)
            )


@dataclass(frozen=True)
class Dealt:
    """The shares that the other clients have dealt to one client."""

    sealed: Mapping[str, SealedShares]

    def to_bytes(self) -> bytes:
        """Return the shares for a message."""
        return write_json({"sealed": _write_sealed(self.sealed)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Dealt":
        """Return the shares of a message.

        Raises:
            Declined: it has other contents.
        """
        with Reader(data, "a message of shares") as read:
            return cls(_read_sealed(read.table("sealed")))


@dataclass(frozen=True)
class Opening:
    """A client's shares for the server: of the seeds of those that reported, of the keys of the others."""

    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """Return the opening for a message."""
        return write_json({"seeds": dict(self.seeds), "keys": dict(self.keys)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Opening":
        """Return the opening of a message.

        Raises:
            Declined: it has other contents.
        """
        with Reader(data, "an opening of shares") as read:
            seeds, keys = (
                {name: to_bytes(share, SHARE_BYTES) for name, share in read.table(table).items()}
                for table in ("seeds", "keys")
            )
            return cls(seeds, keys)


def _write_sealed(sealed: Mapping[str, SealedShares]) -> dict[str, list[bytes]]:
    return {name: [one.box, one.key_commitment, one.seed_commitment] for name, one in sealed.items()}


def _read_sealed(table: dict[str, Any]) -> dict[str, SealedShares]:
    found = {}
    for name, (box, key, seed) in table.items():
        found[name] = SealedShares(to_bytes(box), to_bytes(key, DIGEST_BYTES), to_bytes(seed, DIGEST_BYTES))
        if len(found[name].box) > MOST_BOX_BYTES:
            raise ValueError("too long")
    return found
