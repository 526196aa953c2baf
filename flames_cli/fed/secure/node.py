"""A node in secure sums: its identity, what its owner requires, and sentences in its log."""

from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.messages import TrainRequest
from flames_cli.fed.node import Declined, NodeSettings, client_name
from flames_cli.fed.node_log import hospitals, say
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.secure.client import NO_IDENTITY, ClientSession, Identity
from flames_cli.store.deployment.identity import parse_identity, signer
from flames_cli.store.secure_sessions import SecureFiles

LONGEST = 60
"""Largest number of characters of a name in the log."""


def identity_of(settings: NodeSettings) -> Identity:
    """Return the identity of a node, and those of the only clients with which it shares a sum.

    Raises:
        FlamesError: its key cannot be read, or a pinned identity has the wrong form.
    """
    if settings.identity is None:
        return NO_IDENTITY
    peers = {client: parse_identity(text) for client, text in settings.peers.items()}
    return Identity(signer(settings.identity), peers or None)


def check_plain(settings: NodeSettings, request: TrainRequest, what: str) -> None:
    """Check that a node may send `what` in the clear.

    Raises:
        Declined: the run has secure aggregation, or the node's owner requires it.
    """
    if request.secure or _took_part(settings, request.run):
        raise Declined(
            "the server asks for a report in the clear in a run with secure aggregation; ask who runs the "
            "server, and install the same version everywhere"
        )
    if settings.secure_only:
        raise Declined(
            "its owner takes part only in runs with secure aggregation, and the server asks for "
            f"{what} in the clear; federate with --secure-aggregation, or without this site"
        )


def _took_part(settings: NodeSettings, run: str) -> bool:
    """Return whether the node's client has begun a secure sum in the run with this token."""
    if settings.client_state is None:
        return False
    return SecureFiles(client_state_folder(settings, run, client_name(settings))).took_part


def say_members(settings: NodeSettings, session: ClientSession) -> None:
    """Log with which clients a sum begins, and in the first round what a server could do without pins."""
    others = [name for name in session.participant.roster.names if name != session.participant.client]
    known = "pinned" if settings.peers else "not pinned"
    say(
        settings,
        f"{_sum_of(session)} with {hospitals(len(others))}, {known}:",
        *(f"  {sanitise(name)[:LONGEST]}" for name in others),
    )
    if session.session.round == 1 and not settings.peers:
        say(
            settings,
            "  without pins, a dishonest server could exchange the hospitals'",
            "  keys and read this site's weights (`flames deploy pin`)",
        )
    if (different := len(session.terms.models)) > 1:
        say(
            settings,
            f"  {different} different models are sent to the hospitals of this sum,",
            "  as after absences: usual then only, since it hides a site less",
        )


def say_opened(settings: NodeSettings, session: ClientSession, names: tuple[str, ...]) -> None:
    """Log that this client helps to open a sum."""
    say(settings, f"{_sum_of(session)}: opened for {hospitals(len(names))}, with this one")


def _sum_of(session: ClientSession) -> str:
    about = session.session
    return f"round {about.round}: secure sum of {about.group}"
