"""The client's side of a secure sum: its answers to KEYS, SHARES and UNMASK, and its masked vector.

The session with its secrets is on the client's disk between messages: another process may answer the next
one. The client does not trust the server: `flames_cli.secagg.Participant` declines what would reveal its
vector, and this module a second sum of one round with other clients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Message

from flames_cli.arrays import Weights
from flames_cli.core.federated import summed_preferences
from flames_cli.core.federated.distributed_noise import add_noise, clipped_update
from flames_cli.core.federated.pooled_numbers import to_parts
from flames_cli.core.federated.reports import Report, find_not_finite
from flames_cli.core.federated.secure_blend import weigh
from flames_cli.core.federated.sum_layout import SumLayout
from flames_cli.fed.messages import Profile
from flames_cli.fed.node import Declined
from flames_cli.fed.secure.messages import (
    ADVERT,
    DEALING,
    DEALT,
    OPENING,
    MaskedReport,
    Part,
    only,
    pack_masked,
    read_part,
    reply_with,
)
from flames_cli.fed.secure.own_model import FACTOR, GROUP_KEY, SESSION_ID
from flames_cli.fed.secure.terms import SumTerms, round_layout
from flames_cli.secagg import Advert, Dealt, Participant, Session, add_group_mask
from flames_cli.secagg.fixed_point import Words
from flames_cli.secagg.random_words import RandomWords
from flames_cli.store.secure_sessions import Opened, SecureFiles

SESSION = "session"
"""Name of the bytes of a session in KEYS."""

Sign = Callable[[bytes], bytes]
AddNoise = Callable[[Words, SumLayout, "ClientSession"], None]
"""add_to(words, layout, session) adds noise to an encoded vector in place, before it is masked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a site with which it signs the keys of a session, and those of its peers."""

    sign: Sign | None = None
    peers: Mapping[str, bytes] | None = None
    """Ed25519 keys by client; None: the server is trusted to pass on the clients' keys."""


NO_IDENTITY = Identity()


def answer_keys(
    message: Message, files_of: Callable[[str], SecureFiles], client: str, identity: Identity = NO_IDENTITY
) -> Message:
    """Answer KEYS: begin a session in place of an earlier one, and return its public keys.

    Args:
        message: the server's message.
        files_of: returns the client's files for the run with this token.
        client: name of the client.
        identity: its identity.

    Raises:
        KeyError, TypeError, ValueError, FlamesError: the message cannot be read, or a file not be written.
    """
    session = Session.from_bytes(only(read_part(message), SESSION))
    terms = SumTerms.from_text(session.run)
    files = files_of(terms.run)
    participant = Participant.create(session, client, identity.sign, identity.peers)
    with files.locked():
        before = files.find_opened(terms.purpose, session.round)
        files.save_session(participant.to_bytes())
    opened = before.clients if before else ()
    return reply_with(
        Part(session.id.hex(), terms.run, {ADVERT: participant.advert.to_bytes()}, opened),
        message,
    )


def _opened_before(files: SecureFiles, terms: SumTerms, session: Session) -> tuple[str, ...]:
    """Return the clients with which this client has opened a sum of this round; empty if it has opened none.

    A client has one model group, so that another name of the group allows no second sum.

    Raises:
        Declined: it has opened a sum with other terms, and both together could reveal single clients.
    """
    before = files.find_opened(terms.purpose, session.round)
    if before and before.terms != terms.factors:
        raise Declined(
            f"it has opened a sum of {terms.purpose} {session.round} with other terms, expected the same: "
            "sums with other factors together reveal single clients; go on with the next round"
        )
    return before.clients if before else ()


@dataclass(slots=True)
class ClientSession:
    """The open session of a client."""

    participant: Participant
    files: SecureFiles
    stored: bytes
    """The session as it is on the disk."""

    @classmethod
    def load(cls, files: SecureFiles, name: str) -> "ClientSession":
        """Return the open session called `name`.

        Raises:
            Declined: there is none.
        """
        stored = files.load_session()
        participant = Participant.from_bytes(stored) if stored else None
        if participant is None or participant.session.id.hex() != name:
            raise Declined(
                "it knows no such session of secure aggregation: its node restarted, or another server asks; "
                "the next round begins a new one"
            )
        return cls(participant, files, stored or b"")

    @property
    def session(self) -> Session:
        """The session."""
        return self.participant.session

    @property
    def terms(self) -> SumTerms:
        """Terms of the sum."""
        return SumTerms.from_text(self.session.run)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Lend the files for the answer to a message, if none was answered since the session was read.

        Raises:
            Declined: one was: its answer used the same secrets.
        """
        with self.files.locked():
            if self.files.load_session() != self.stored:
                raise Declined(
                    "it has answered another message of this session at the same time, expected one after "
                    "the other: both answers together could reveal its weights; the next round begins a new "
                    "session"
                )
            yield

    def save(self) -> None:
        """Store the session as it is now."""
        self.stored = self.participant.to_bytes()
        self.files.save_session(self.stored)

    def answer_shares(self, part: Part, message: Message) -> Message:
        """Answer SHARES: return the sealed shares for the clients whose keys arrived."""
        adverts = [Advert.from_bytes(blob) for blob in part.blobs.values()]
        with self.in_turn():
            dealing = self.participant.share(adverts)
            self.save()
        return reply_with(Part(part.session, part.run, {DEALING: dealing.to_bytes()}), message)

    def begin(self, part: Part, purpose: str, round_: int) -> None:
        """Take the shares in a training request, before the training.

        Raises:
            Declined: the request is for another round or purpose than the session.
        """
        if (self.terms.purpose, self.session.round) != (purpose, round_):
            raise Declined(
                f"its session is for {self.terms.purpose} {self.session.round}, the request for {purpose} "
                f"{round_}; expected the same; the next round begins a new one"
            )
        self.participant.receive(Dealt.from_bytes(only(part, DEALT)))

    def mask(
        self,
        layout: SumLayout,
        weights: Weights,
        factor: float,
        numbers: Sequence[float],
        add_to: AddNoise | None = None,
    ) -> Words:
        """Return the masked vector; the session is stored first, so that nothing is masked twice.

        Raises:
            Declined: a value is not finite, or too large for the words; the message names its entry.
        """
        check_finite(weights)
        fixed, clients = self.session.fixed_point, len(self.participant.peers)
        words, at = np.empty(layout.size, fixed.dtype), 0
        for name, values, scale in layout.parts(weights, factor, numbers):
            fixed.encode_into(words[at : at + values.size], values, scale, clients, name)
            at += values.size
        if add_to:
            add_to(words, layout, self)
        for name, part in layout.hidden(words):
            add_group_mask(part, self.participant.group_key, name)
        with self.in_turn():
            self.participant.mask(words)
            self.save()
        return words

    def report(self, words: Words, profile: Profile, message: Message) -> Message:
        """Return the reply to the training request."""
        session = self.session
        about = MaskedReport(profile.client, profile.modality, session.round, session.id.hex(), words)
        return pack_masked(about, message)

    def answer_unmask(self, part: Part, message: Message) -> Message:
        """Answer UNMASK: return the shares that open the sum of the clients that it names.

        Raises:
            Declined: the client has opened a sum of this round with other clients, or too few are named.
        """
        terms, session = self.terms, self.session
        with self.in_turn():
            opening = self.participant.unmask(part.names, _opened_before(self.files, terms, session))
            # Noted before anything is sent: a client that is killed now must not open another sum later.
            opened = Opened(tuple(sorted(part.names)), terms.factors)
            self.files.add_opened(terms.purpose, session.round, opened)
            self.files.delete_session()
        return reply_with(Part(part.session, part.run, {OPENING: opening.to_bytes()}), message)


def check_noise(terms: SumTerms, clip: float) -> None:
    """Check that a training request with this clipping norm (0: no privacy) fits the terms of the sum.

    Raises:
        Declined: it does not.
    """
    if terms.clip != clip:
        raise Declined(
            f"its request is for an update clipped to {clip:g}, its session for a sum of updates clipped to "
            f"{terms.clip:g} with noise {terms.noise:g} (0: none), expected the same in both; ask who runs "
            "the server"
        )


def check_finite(weights: Weights) -> None:
    """Raise Declined if a value is not finite."""
    if fault := find_not_finite(weights):
        raise Declined(f"its training gave weights that cannot be added: {fault}; train with a lower --lr")


def add_share(words: Words, layout: SumLayout, session: ClientSession) -> None:
    """Add the client's share of the noise to the encoded update.

    Raises:
        FlamesError: the noise does not fit the words.
    """
    roster = session.participant.roster
    shares = session.terms.noise_shares(
        layout, session.session.fixed_point, len(roster.names), roster.least_reports
    )
    add_noise(words[: layout.n_weights], shares.variance, RandomWords())


def report_factor(terms: SumTerms, report: Report) -> float:
    """Return the factor of a report in the sum; raises as `factor_of`."""
    return factor_of(terms, report.n_examples, report.n_steps)


def factor_of(terms: SumTerms, n_examples: int, n_steps: int = 0) -> float:
    """Return the factor of a client with these numbers of images and steps.

    Raises:
        Declined: it would not be above 0 and at most 1.
    """
    try:
        return weigh(terms.weighing, n_examples, n_steps, terms.reference)
    except ValueError as error:
        raise Declined(f"{error}; its images have changed since it joined: restart its node") from error


def own_part(session: ClientSession, report: Report) -> Weights:
    """Return what a client stores with its own report: its factor in the sum, and the key of the group with
    the session to which it belongs.

    Raises:
        Declined: the factor would not be above 0 and at most 1.
    """
    factor = np.array(report_factor(session.terms, report))
    key = np.frombuffer(session.participant.group_key, np.uint8)
    return {FACTOR: factor, GROUP_KEY: key, SESSION_ID: np.frombuffer(session.session.id, np.uint8)}


def mask_report(
    session: ClientSession, report: Report, profile: Profile, message: Message, start: Weights
) -> Message:
    """Return the reply to a training request: the masked vector of the report's weights and numbers, or of
    the clipped update with noise.

    `start` are the weights of the request, whose order is that of the vector.

    Raises:
        Declined: the report has other entries than the request.
        FlamesError: a value, or the noise, does not fit the words.
    """
    terms = session.terms
    if report.weights.keys() != start.keys():
        raise Declined(
            f"its model has {len(report.weights)} entries, and the server's message {len(start)}, expected "
            "the same ones; install the same version everywhere"
        )
    report = replace(report, weights={name: report.weights[name] for name in start})
    layout = round_layout(report.weights, terms)
    if terms.private:
        check_finite(report.weights)
        update = clipped_update(report.weights, start, terms.clip)
        return session.report(session.mask(layout, update, 1.0, (), add_share), profile, message)
    numbers = to_parts(report.metrics, terms.images)
    if terms.choosing:
        numbers += summed_preferences.to_parts(report.preference)
    words = session.mask(layout, report.weights, report_factor(terms, report), numbers)
    return session.report(words, profile, message)
