"""A client's part of a session: it does not trust the server, and declines what would reveal its vector."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from flames_cli.errors import list_faults
from flames_cli.secagg import keys, shamir
from flames_cli.secagg.errors import Declined
from flames_cli.secagg.fixed_point import Words
from flames_cli.secagg.json_bytes import Reader, to_bytes, write_json
from flames_cli.secagg.masks import Mask, add_masks
from flames_cli.secagg.messages import Advert, Dealing, Dealt, Opening, SealedShares
from flames_cli.secagg.sealing import seal, unseal
from flames_cli.secagg.session import Roster, Session, Step, advert_text

VERSION = 1
"""Version of the state that `to_bytes` writes."""

Shares = tuple[bytes, bytes]
"""Shares of a client's mask key and of the seed of its own mask."""


@dataclass(frozen=True)
class _State:
    """Everything that a participant knows. The secrets are empty as soon as they are not needed any more."""

    session: Session
    client: str
    advert: Advert
    identities: Mapping[str, bytes] | None
    step: Step = "keys"
    """Exchange that comes next; `unmask` may be repeated for the same survivors."""
    encryption_private: bytes = b""
    mask_private: bytes = b""
    seed: bytes = b""
    part: bytes = b""
    """This client's part of the group key."""
    group_key: bytes = b""
    adverts: tuple[Advert, ...] = ()
    shares: Mapping[str, Shares] | None = None
    survivors: tuple[str, ...] = ()


class Participant:
    """One client in one session: the calls are in the order of the package's description."""

    def __init__(self, state: _State) -> None:
        self._state = state

    @classmethod
    def create(
        cls,
        session: Session,
        client: str,
        sign: Callable[[bytes], bytes] | None = None,
        peers: Mapping[str, bytes] | None = None,
    ) -> "Participant":
        """Return a participant with new keys.

        Args:
            session: what the server asks for.
            client: name of this client in the session.
            sign: returns this client's Ed25519 signature (64 bytes) of a text; None: keys are unsigned.
            peers: Ed25519 public keys (32 bytes) of all clients that may be in a session, by name. With them,
                a session with another client, or keys with a wrong signature, are declined. None: the server
                is trusted to pass on the clients' keys as they are.
        """
        private, mask_private = keys.make_secret(), keys.make_secret()
        public, mask_public = keys.public_key(private), keys.public_key(mask_private)
        signature = sign(advert_text(session, client, public, mask_public)) if sign else b""
        advert = Advert(client, public, mask_public, signature)
        identities = dict(peers) if peers is not None else None
        seed, part = keys.make_secret(), keys.make_secret()
        return cls(_State(session, client, advert, identities, "keys", private, mask_private, seed, part))

    @property
    def session(self) -> Session:
        """Session that this participant is in."""
        return self._state.session

    @property
    def client(self) -> str:
        """Name of this client."""
        return self._state.client

    @property
    def advert(self) -> Advert:
        """Public keys for the exchange KEYS."""
        return self._state.advert

    @property
    def roster(self) -> Roster:
        """Clients of the session, known from the exchange SHARES on."""
        return Roster.of(self.session, self._state.adverts)

    @property
    def peers(self) -> tuple[str, ...]:
        """Clients, with this one, that have dealt their shares; known after `receive`."""
        return tuple(sorted(self._state.shares or ()))

    @property
    def group_key(self) -> bytes:
        """Key that all clients of the session know and the server does not; known after `receive`.

        With its stream (`masks`) clients may hide a part of the sum from the server: each adds it once, and
        who knows the number of survivors subtracts it as many times.
        """
        return self._state.group_key

    def share(self, adverts: Iterable[Advert]) -> Dealing:
        """Return the sealed shares of this client's secrets for all clients of the session (SHARES).

        Raises:
            Declined: fewer than 3 clients, this client's own keys are not among them, two with one name or
                key, a key that cannot be used, or a client that is not known or has not signed its keys.
        """
        self._expect("keys")
        state = self._state
        roster = Roster.of(self.session, adverts)
        if roster.adverts.get(self.client) != state.advert:
            raise Declined(
                f"the session has other keys of {self.client} than its own, expected those that it sent; the "
                "server, or somebody between, has changed them: do not use this server before that is "
                "explained"
            )
        if state.identities is not None:
            roster.check_identities(state.identities, self.client)
        count, needed = len(roster.names), roster.threshold
        of_key = shamir.split(state.mask_private, needed, count)
        of_seed = shamir.split(state.seed, needed, count)
        dealt = {name: (of_key[i], of_seed[i]) for i, name in enumerate(roster.names)}
        own = dealt.pop(self.client)
        dealing = Dealing(
            roster.commit_seed(self.client, state.seed),
            {holder: self._seal(roster, holder, shares) for holder, shares in dealt.items()},
            _commit(roster, self.client, self.client, own),
        )
        self._state = replace(
            state, step="shares", adverts=tuple(roster.adverts.values()), shares={self.client: own}
        )
        return dealing

    def receive(self, dealt: Dealt) -> None:
        """Take the shares of the others, and check them (with the training request, before the training).

        Raises:
            Declined: too few clients have dealt, or a client's shares cannot be opened or do not fit its
                commitments; the message names the dealers.
        """
        self._expect("shares")
        roster = self.roster
        strange = set(dealt.sealed) - (set(roster.names) - {self.client})
        if strange or len(dealt.sealed) + 1 < roster.least_reports:
            raise Declined(
                f"shares of {len(dealt.sealed)} clients came, {len(strange)} of them not of this session; "
                f"expected those of at least {roster.least_reports - 1} other clients of it; start the round "
                "again"
            )
        texts = {dealer: self._unseal(roster, dealer, sealed) for dealer, sealed in dealt.sealed.items()}
        if bad := sorted(dealer for dealer, found in texts.items() if found is None):
            raise Declined(
                f"the shares from {list_faults(bad)} do not open, or do not fit what their client committed "
                "to; expected shares of this session; look at this client, or leave it out of the round"
            )
        good = {dealer: found for dealer, found in texts.items() if found is not None}
        shares = {dealer: (of_key, of_seed) for dealer, (of_key, of_seed, _) in good.items()}
        parts = {dealer: part for dealer, (_, _, part) in good.items()} | {self.client: self._state.part}
        self._state = replace(
            self._state,
            step="train",
            encryption_private=b"",
            part=b"",
            group_key=roster.group_key(parts),
            shares={**(self._state.shares or {}), **shares},
        )

    def mask(self, words: Words) -> None:
        """Add this client's masks to its vector, in place; afterwards the secrets are forgotten (TRAIN).

        The mask is that of the own seed, and one with each other client: added by the first of two names and
        subtracted by the second, so that they cancel in the sum.

        Raises:
            Declined: the words have another type than the session's.
        """
        self._expect("train")
        state, roster = self._state, self.roster
        if words.dtype != self.session.fixed_point.dtype or words.ndim != 1:
            raise Declined(
                f"the vector has {words.ndim} dimensions of {words.dtype}, expected one of words of "
                f"{self.session.bits} bits; use the same version of FLAMES everywhere"
            )
        masks = [Mask(roster.own_mask_key(state.seed, self.client), minus=False)]
        for peer in self.peers:
            if peer != self.client:
                key = roster.mask_key(state.mask_private, self.client, peer)
                masks.append(Mask(key, minus=peer < self.client))
        add_masks(words, masks)
        self._state = replace(state, step="unmask", mask_private=b"", seed=b"")

    def unmask(self, survivors: Collection[str], opened: Collection[str] | None = None) -> Opening:
        """Return the shares that open the sum of the survivors, and nothing else (UNMASK).

        For a client whose vector is in the sum, this is the share of its own mask's seed; for one that
        dropped out, the share of its mask key. Both of one client would open its vector.

        Args:
            survivors: clients whose vectors are in the sum.
            opened: survivors of an earlier session of this round that this client helped to open, if there
                was one; the difference of two sums would reveal the clients that are in one of them only.

        Raises:
            Declined: fewer survivors than `least_reports`, one named twice, strangers, this client is not
                one of them, or others than those for which the sum was opened before.
        """
        self._expect("unmask")
        roster, shares = self.roster, self._state.shares or {}
        asked, least = tuple(sorted(survivors)), roster.least_reports
        if len(set(asked)) < max(least, len(asked)) or not set(asked) <= set(shares):
            raise Declined(
                f"a sum of {len(set(asked))} clients is asked for ({len(asked)} names), expected at least "
                f"{least} of the {len(shares)} that dealt shares, each once; start the round again with all "
                "clients"
            )
        if self.client not in asked:
            raise Declined(
                f"a sum without {self.client} is asked for, expected one with its vector; start the round "
                "again"
            )
        for before in (self._state.survivors, tuple(opened or ())):
            if before and set(before) != set(asked):
                raise Declined(
                    f"a sum of {len(asked)} clients is asked for after one of {len(before)} others in this "
                    "round, expected the same clients: the difference of two sums reveals single clients; "
                    "go on with the next round"
                )
        self._state = replace(self._state, survivors=asked)
        return Opening(
            seeds={name: shares[name][1] for name in asked},
            keys={name: shares[name][0] for name in shares if name not in asked},
        )

    def to_bytes(self) -> bytes:
        """Return the state, with its secrets: store it where only this client can read it."""
        state = self._state
        fields = vars(state) | {
            "version": VERSION,
            "session": vars(state.session),
            "advert": vars(state.advert),
            "adverts": [vars(advert) for advert in state.adverts],
        }
        return write_json(fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Participant":
        """Return the participant of a stored state.

        Raises:
            Declined: it is not a state of this version.
        """
        with Reader(data, "the stored state of a client") as read:
            if read.count("version") != VERSION:
                raise ValueError("version")
            return cls(_read_state(read))

    def _expect(self, step: Step) -> None:
        """Check that `step` is the next one: a step done twice would use the same masks or secrets twice."""
        if self._state.step != step:
            raise Declined(
                f"the server asks for step {step} of secure aggregation after another, expected "
                f"{self._state.step}; start the round again"
            )

    def _seal(self, roster: Roster, holder: str, shares: Shares) -> SealedShares:
        commitments = _commit(roster, self.client, holder, shares)
        key, context = self._box_key(roster, self.client, holder), _box_context(roster, self.client, holder)
        text = b"".join(shares) + self._state.part
        return SealedShares(seal(key, text, context + b"".join(commitments)), *commitments)

    def _unseal(self, roster: Roster, dealer: str, sealed: SealedShares) -> tuple[bytes, bytes, bytes] | None:
        """Return the two shares in a box and the dealer's part of the group key.

        It is None if the box does not open, or the shares do not fit the commitments.
        """
        commitments = (sealed.key_commitment, sealed.seed_commitment)
        key, context = self._box_key(roster, dealer, self.client), _box_context(roster, dealer, self.client)
        text = unseal(key, sealed.box, context + b"".join(commitments))
        size = shamir.SHARE_BYTES
        if text is None or len(text) != 2 * size + keys.KEY_BYTES:
            return None
        shares = text[:size], text[size : 2 * size]
        if _commit(roster, dealer, self.client, shares) != commitments:
            return None
        return *shares, text[2 * size :]

    def _box_key(self, roster: Roster, dealer: str, holder: str) -> bytes:
        """Return the key of the box from dealer to holder, of which this client is one."""
        peer = holder if dealer == self.client else dealer
        try:
            secret = keys.agree(self._state.encryption_private, roster.adverts[peer].encryption_key)
            keys.agree(self._state.mask_private, roster.adverts[peer].mask_key)
        except ValueError:
            raise Declined(
                f"a key of {peer} cannot be used, expected a point of X25519 of its own; look at this "
                "client, or leave it out of the round"
            ) from None
        return roster.pair_key("box", secret, dealer, holder)


def _box_context(roster: Roster, dealer: str, holder: str) -> bytes:
    return roster.context("shares", dealer.encode(), holder.encode())


def _commit(roster: Roster, dealer: str, holder: str, shares: Shares) -> tuple[bytes, bytes]:
    """Return the commitments to the share of the mask key and to that of the seed."""
    return (
        roster.commit_share("mask key", dealer, holder, shares[0]),
        roster.commit_share("seed", dealer, holder, shares[1]),
    )


def _read_state(read: Reader) -> _State:
    identities, shares, step = read.value("identities"), read.value("shares"), read.text("step")
    steps: dict[str, Step] = {"keys": "keys", "shares": "shares", "train": "train", "unmask": "unmask"}
    return _State(
        session=Session.from_bytes(write_json(read.table("session"))),
        client=read.text("client"),
        advert=Advert.from_bytes(write_json(read.table("advert"))),
        identities=None if identities is None else {name: to_bytes(key) for name, key in identities.items()},
        step=steps[step],
        encryption_private=read.bytes("encryption_private"),
        mask_private=read.bytes("mask_private"),
        seed=read.bytes("seed"),
        part=read.bytes("part"),
        group_key=read.bytes("group_key"),
        adverts=tuple(Advert.from_bytes(write_json(advert)) for advert in read.value("adverts")),
        shares=None
        if shares is None
        else {name: (to_bytes(a), to_bytes(b)) for name, (a, b) in shares.items()},
        survivors=read.texts("survivors"),
    )
