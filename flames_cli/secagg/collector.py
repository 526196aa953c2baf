"""The server's part of a session: it passes on keys and shares, adds masked vectors and opens their sum."""

from collections.abc import Mapping

import numpy as np

from flames_cli.errors import list_faults
from flames_cli.secagg import keys, shamir
from flames_cli.secagg.errors import Abandoned, BadMessage
from flames_cli.secagg.fixed_point import Words
from flames_cli.secagg.masks import Mask, add_masks
from flames_cli.secagg.messages import Advert, Dealing, Dealt, Opening
from flames_cli.secagg.session import FEWEST, Roster, Session, Step


class Collector:
    """The server in one session. It needs memory for one vector, however many clients there are."""

    def __init__(self, session: Session, length: int) -> None:
        """Create a collector of vectors of `length` words."""
        self.session = session
        self.length = length
        self.faults: dict[str, str] = {}
        """Faults of clients in opening the sum, by client, for the log."""
        self._step: Step = "keys"
        self._adverts: dict[str, Advert] = {}
        self._roster: Roster | None = None
        self._dealings: dict[str, Dealing] = {}
        self._sum: Words | None = None
        self._added: set[str] = set()
        self._shares: dict[tuple[str, str], dict[int, bytes]] = {}
        self._openings: set[str] = set()

    @property
    def roster(self) -> Roster:
        """Clients of the session, fixed by `close_adverts`."""
        if self._roster is None:
            raise ValueError("the adverts are not closed yet")
        return self._roster

    def add_advert(self, client: str, advert: Advert) -> None:
        """Take the keys of a client (KEYS).

        Raises:
            BadMessage: the advert is of another client, came twice, or has keys that cannot be used.
        """
        usable = keys.is_usable(advert.encryption_key) and keys.is_usable(advert.mask_key)
        known = {key for one in self._adverts.values() for key in (one.encryption_key, one.mask_key)}
        fresh = len(known | {advert.encryption_key, advert.mask_key}) == len(known) + 2
        own = advert.client == client and client not in self._adverts
        if self._step != "keys" or not (own and usable and fresh):
            raise BadMessage(
                f"the keys from {client} cannot be used, expected two X25519 keys of its own, once in a "
                "session; look at this client"
            )
        self._adverts[client] = advert

    def close_adverts(self) -> tuple[Advert, ...]:
        """Return the keys of all clients, to be sent to each of them.

        Raises:
            Abandoned: there are fewer than 3.
        """
        if len(self._adverts) < FEWEST:
            raise Abandoned(
                f"{len(self._adverts)} clients sent keys ({_name(self._adverts)}), expected at least "
                f"{FEWEST}, since a sum of two reveals each to the other; wait for more clients"
            )
        self._step = "shares"
        self._roster = Roster.of(self.session, self._adverts.values())
        return tuple(self._roster.adverts.values())

    def add_dealing(self, client: str, dealing: Dealing) -> None:
        """Take the sealed shares of a client (SHARES).

        Raises:
            BadMessage: it is not in the session, has dealt before, or has not dealt to exactly the others.
        """
        others = set(self.roster.names) - {client}
        late = self._step != "shares" or client in self._dealings
        if late or client not in self.roster.adverts or set(dealing.sealed) != others:
            raise BadMessage(
                f"the shares from {client} cannot be used, expected one box for each of the {len(others)} "
                "other clients, once in a session; look at this client"
            )
        self._dealings[client] = dealing

    def close_dealings(self) -> tuple[str, ...]:
        """Return the clients that go on: those that have dealt.

        Raises:
            Abandoned: they are too few for a sum.
        """
        self._require(self._dealings, "dealt shares")
        self._step = "train"
        return tuple(sorted(self._dealings))

    def dealt_for(self, client: str) -> Dealt:
        """Return the shares for one client, from all others that have dealt."""
        return Dealt({dealer: d.sealed[client] for dealer, d in self._dealings.items() if dealer != client})

    def add(self, client: str, words: Words) -> None:
        """Add the masked vector of a client (TRAIN).

        Raises:
            BadMessage: it is not one of those that go on, has reported before, or the vector has another
                length or type.
        """
        right = words.shape == (self.length,) and words.dtype == self.session.fixed_point.dtype
        late = self._step != "train" or client in self._added
        if late or client not in self._dealings or not right:
            raise BadMessage(
                f"the vector from {client} has shape {words.shape} of {words.dtype}, expected {self.length} "
                f"words of {self.session.bits} bits, once, of a client that dealt shares; look at this client"
            )
        if self._sum is None:
            self._sum = np.zeros(self.length, words.dtype)
        np.add(self._sum, words, out=self._sum)
        self._added.add(client)

    def close_vectors(self) -> tuple[str, ...]:
        """Return the survivors: the clients whose vectors are in the sum.

        Raises:
            Abandoned: they are too few.
        """
        self._require(self._added, "sent a vector")
        self._step = "unmask"
        return tuple(sorted(self._added))

    def add_opening(self, client: str, opening: Opening) -> None:
        """Take a survivor's shares (UNMASK). Shares that do not fit are left out; `faults` names the client.

        Raises:
            BadMessage: the client is no survivor, has answered before, or gives other shares than asked for.
        """
        dropped = set(self._dealings) - self._added
        right = set(opening.seeds) == self._added and set(opening.keys) == dropped
        late = self._step != "unmask" or client in self._openings
        if late or client not in self._added or not right:
            raise BadMessage(
                f"the opening from {client} cannot be used, expected shares of the {len(self._added)} seeds "
                f"and {len(dropped)} keys, once, of a client in the sum; look at this client"
            )
        self._openings.add(client)
        point = self.roster.points[client]
        for kind, shares in (("seed", opening.seeds), ("mask key", opening.keys)):
            for dealer, share in shares.items():
                if self.roster.commit_share(kind, dealer, client, share) == self._commitment(
                    kind, dealer, client
                ):
                    self._shares.setdefault((kind, dealer), {})[point] = share
                else:
                    self.faults[client] = f"gave a wrong share of the {kind} of {dealer}"

    @property
    def can_open(self) -> bool:
        """Return whether enough good shares have come; more are not needed."""
        return all(len(self._shares.get(secret, ())) >= self.roster.threshold for secret in self._wanted())

    def open(self) -> Words:
        """Return the sum of the survivors' vectors. The collector is used up.

        Raises:
            Abandoned: too few good shares, or a client dealt shares that do not give what it committed to;
                the message names the clients.
        """
        if self._sum is None or self._step != "unmask":
            raise ValueError("the vectors are not closed, or the sum has been opened")
        if not self.can_open:
            silent = sorted(self._added - self._openings)
            wrong = [f"{client} {what}" for client, what in sorted(self.faults.items())]
            raise Abandoned(
                f"the sum of {len(self._added)} clients cannot be opened: {len(silent)} did not answer "
                f"({_name(silent)}), {len(wrong)} lied ({list_faults(wrong) or 'none'}); expected shares of "
                f"{self.roster.threshold} clients; look at these clients"
            )
        secrets = {(kind, dealer): self._combine(kind, dealer) for kind, dealer in self._wanted()}
        if liars := sorted(dealer for (_, dealer), secret in secrets.items() if secret is None):
            raise Abandoned(
                f"the shares that {list_faults(liars)} dealt do not give the secret that it committed to; "
                "expected consistent shares; look at this client, or leave it out of the next round"
            )
        add_masks(
            self._sum, self._masks({one: secret for one, secret in secrets.items() if secret is not None})
        )
        opened, self._sum = self._sum, None
        return opened

    def _wanted(self) -> list[tuple[str, str]]:
        """Return the secrets that open the sum: kind and dealer."""
        return [
            ("seed" if dealer in self._added else "mask key", dealer) for dealer in sorted(self._dealings)
        ]

    def _commitment(self, kind: str, dealer: str, holder: str) -> bytes:
        dealing = self._dealings[dealer]
        if holder == dealer:
            return dealing.own[kind == "seed"]
        sealed = dealing.sealed[holder]
        return sealed.seed_commitment if kind == "seed" else sealed.key_commitment

    def _combine(self, kind: str, dealer: str) -> bytes | None:
        """Return the secret of the first good shares, or None if it is not the one that was committed to."""
        shares = self._shares[kind, dealer]
        used = {point: shares[point] for point in sorted(shares)[: self.roster.threshold]}
        secret = shamir.combine(used)
        if secret is None:
            return None
        if kind == "seed":
            fits = self.roster.commit_seed(dealer, secret) == self._dealings[dealer].seed_commitment
        else:
            fits = keys.public_key(secret) == self._adverts[dealer].mask_key
        return secret if fits else None

    def _masks(self, secrets: Mapping[tuple[str, str], bytes]) -> list[Mask]:
        """Return what takes the masks out of the sum: own masks, and those with clients that dropped out."""
        masks = []
        for (kind, dealer), secret in secrets.items():
            if kind == "seed":
                masks.append(Mask(self.roster.own_mask_key(secret, dealer), minus=True))
                continue
            for survivor in sorted(self._added):
                key = self.roster.mask_key(secret, dealer, survivor)
                masks.append(Mask(key, minus=survivor < dealer))  # the opposite of the survivor's sign
        return masks

    def _require(self, clients: "Mapping[str, object] | set[str]", what: str) -> None:
        least = self.roster.least_reports
        if len(clients) < least:
            missing = sorted(set(self.roster.names) - set(clients))
            raise Abandoned(
                f"{len(clients)} of {len(self.roster.names)} clients {what}, expected at least {least}; "
                f"without {_name(missing)} the sum would reveal too much: wait for these clients"
            )


def _name(clients: "Mapping[str, object] | set[str] | list[str]") -> str:
    return list_faults(sorted(clients)) or "none"
