"""A session: one attempt at the secure sum of one model group in one round, and the clients in it."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from flames_cli.errors import list_faults
from flames_cli.secagg import keys
from flames_cli.secagg.errors import Declined
from flames_cli.secagg.fixed_point import FIXED_POINTS, FixedPoint
from flames_cli.secagg.json_bytes import Reader, write_json
from flames_cli.secagg.messages import Advert

PROTOCOL = b"FLAMES secure aggregation 1"

ID_BYTES = 16
FEWEST = 3
"""Smallest number of clients in a sum: with two, each would learn the other's vector."""
MOST_CLIENTS = 1000
MOST_LETTERS = 1 << 17
"""Largest length of a name in a session. That of the run has all terms: up to 70 letters for each client."""

Step = Literal["keys", "shares", "train", "unmask"]
"""Exchanges of a session, in order."""


def threshold(clients: int) -> int:
    """Return how many of `clients` must give their shares: two thirds, rounded up.

    It is more than half, so that the two secrets of one client are never opened by two separate sets of
    clients: a client gives the share of one of them only.
    """
    return -(-2 * clients // 3)


def least_reports(clients: int) -> int:
    """Return the smallest number of reports in a sum that the clients help to open."""
    return max(FEWEST, threshold(clients))


@dataclass(frozen=True)
class Session:
    """The names to which all keys and boxes are bound. `id` is random: no two sessions are alike."""

    id: bytes
    run: str
    round: int
    group: str
    bits: int = 64

    def __post_init__(self) -> None:
        texts = max(len(self.run), len(self.group)) <= MOST_LETTERS
        if len(self.id) != ID_BYTES or self.bits not in FIXED_POINTS or self.round < 0 or not texts:
            raise Declined(
                f"a session has an id of {len(self.id)} bytes, round {self.round} and words of {self.bits} "
                f"bits, expected {ID_BYTES} bytes, a round from 0 and 32 or 64 bits; use the same version of "
                "FLAMES"
            )

    @classmethod
    def new(cls, run: str, round: int, group: str, bits: int = 64) -> "Session":
        """Return a session with a new random id, for the server."""
        return cls(os.urandom(ID_BYTES), run, round, group, bits)

    @property
    def fixed_point(self) -> FixedPoint:
        """Format of the words of this session."""
        return FIXED_POINTS[self.bits]

    def context(self, purpose: str, *parts: bytes) -> bytes:
        """Return the bytes to which something of this session is bound."""
        numbers = (self.round.to_bytes(8, "big"), self.bits.to_bytes(8, "big"))
        names = (self.run.encode(), self.group.encode())
        return keys.pack(PROTOCOL, purpose.encode(), self.id, *names, *numbers, *parts)

    def to_bytes(self) -> bytes:
        """Return the session for a message."""
        return write_json(vars(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Session":
        """Return the session of a message.

        Raises:
            Declined: it has other contents.
        """
        with Reader(data, "a session") as read:
            return cls(
                read.bytes("id"),
                read.text("run"),
                read.count("round"),
                read.text("group"),
                read.count("bits"),
            )


def advert_text(session: Session, client: str, encryption_key: bytes, mask_key: bytes) -> bytes:
    """Return the text that a client signs to say that keys of a session are its own."""
    return session.context("advert", client.encode(), encryption_key, mask_key)


@dataclass(frozen=True)
class Roster:
    """The clients of a session with their public keys, in the order of their names.

    The digest covers session, names and keys. All keys and boxes are bound to it: they fit only if both
    clients were given the same roster.
    """

    session: Session
    adverts: Mapping[str, Advert] = field(hash=False)

    @classmethod
    def of(cls, session: Session, adverts: Iterable[Advert]) -> "Roster":
        """Return the roster of these adverts.

        Raises:
            Declined: there are fewer than 3 clients, or two with the same name or key.
        """
        listed = sorted(adverts, key=lambda advert: advert.client)
        names = {advert.client for advert in listed}
        public = {key for advert in listed for key in (advert.encryption_key, advert.mask_key)}
        if not FEWEST <= len(listed) <= MOST_CLIENTS:
            raise Declined(
                f"{len(listed)} clients are in the session of {session.group}, expected at least {FEWEST}, "
                "since a sum of two reveals each to the other; wait for more clients, or run without "
                "--secure-aggregation"
            )
        if len(names) < len(listed) or len(public) < 2 * len(listed):
            raise Declined(
                "two clients of the session have the same name or the same key, expected different ones; "
                "check that every site has its own key and the server is the one that you know"
            )
        return cls(session, {advert.client: advert for advert in listed})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Clients in the order of their names."""
        return tuple(self.adverts)

    @cached_property
    def points(self) -> dict[str, int]:
        """Points at which the clients' shares are the values of the polynomials."""
        return {name: point for point, name in enumerate(self.names, 1)}

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of session, names and keys."""
        entries = [keys.pack(a.client.encode(), a.encryption_key, a.mask_key) for a in self.adverts.values()]
        return hashlib.sha256(self.session.context("roster", *entries)).digest()

    @property
    def threshold(self) -> int:
        """Number of shares that open a secret."""
        return threshold(len(self.adverts))

    @property
    def least_reports(self) -> int:
        """Smallest number of vectors in a sum."""
        return least_reports(len(self.adverts))

    def context(self, purpose: str, *parts: bytes) -> bytes:
        """Return the bytes to which something of this session and of these clients is bound."""
        return self.session.context(purpose, self.digest, *parts)

    def check_identities(self, identities: Mapping[str, bytes], own: str) -> None:
        """Check that every other client is known, and has signed its keys for this session.

        Raises:
            Declined: the message names the clients.
        """
        faults = []
        for name, advert in self.adverts.items():
            text = advert_text(self.session, name, advert.encryption_key, advert.mask_key)
            if name == own:
                continue
            if name not in identities:
                faults.append(f"{name} is not pinned")
            elif not keys.is_signed(text, advert.signature, identities[name]):
                faults.append(f"the signature of {name} is wrong")
        if faults:
            raise Declined(
                f"clients of the session are not those that this site knows: {list_faults(faults)}; expected "
                "only clients whose keys are pinned; ask the sites for their keys, and do not trust this "
                "server before"
            )

    # -- keys and commitments of this roster

    def pair_key(self, purpose: str, secret: bytes, *clients: str) -> bytes:
        """Return the key for one purpose that these clients derive from the secret that they share."""
        return keys.derive(secret, self.context(purpose, *(client.encode() for client in clients)))

    def mask_key(self, private: bytes, one: str, other: str) -> bytes:
        """Return the key of the mask between two clients, by the private mask key of `one`."""
        secret = keys.agree(private, self.adverts[other].mask_key)
        return self.pair_key("mask of a pair", secret, *sorted((one, other)))

    def own_mask_key(self, seed: bytes, client: str) -> bytes:
        """Return the key of a client's own mask."""
        return self.pair_key("own mask", seed, client)

    def group_key(self, parts: Mapping[str, bytes]) -> bytes:
        """Return the key that all clients have and the server has not, from the parts that they dealt."""
        names = sorted(parts)
        secret = keys.pack(*(parts[name] for name in names))
        return self.pair_key("mask of the group", secret, *names)

    def commit_share(self, kind: str, dealer: str, holder: str, share: bytes) -> bytes:
        """Return the dealer's commitment to a share: SHA-256, since nobody can guess a share's 256 bits."""
        context = self.context(f"share of the {kind}", dealer.encode(), holder.encode(), share)
        return hashlib.sha256(context).digest()

    def commit_seed(self, dealer: str, seed: bytes) -> bytes:
        """Return the dealer's commitment to the seed of its own mask."""
        return hashlib.sha256(self.context("seed", dealer.encode(), seed)).digest()
