"""The folder of the client state, which a client stores on its own disk between rounds.

All engines use the same folder, so that a node resumes after a restart in the same way as a run in one
process. No server ever stores client state.
"""

import re
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.sanitise import sanitise
from flames_cli.store.client_state import client_folder

CONTROL = "control"
"""The client's control variate (SCAFFOLD)."""
STYLE = "style"
"""Style entries of a disentangled model, if clients share only the content entries."""

RULE = "rule"
"""State of a plug-in's local update rule."""

RESIDUAL = "residual"
"""Part of the client's updates that reports in 8 bits left out (`core.federated.coding`)."""

OWN, OWN_FACTOR = "own", "own_factor"
"""The client's own report of a round with secure aggregation, and its factor in the sum with the key of the
group, from which it makes its own model. They never leave the client."""

PREFERENCE = "preference"
"""The client's record of its candidates (flames-adaptive with secure aggregation)."""

FINAL = "final"
"""Entries of the client's final model that no server has: with secure aggregation BatchNorm's statistics on
its own images, or the complete model that it has chosen. They are in a folder of this name."""

_RUN = re.compile(r"[0-9a-f]{16}")


def check_token(run: str) -> None:
    """Raise FlamesError if a run's token is not 16 hex digits."""
    if not _RUN.fullmatch(run):
        raise FlamesError(
            f"the run's token is {sanitise(run[:80])!r}, expected 16 hex digits; install the same version "
            "everywhere"
        )


def client_state_folder(settings: NodeSettings, run: str, client: str) -> Path:
    """Return FOLDER/<run>/<client>, the folder of the state of `client` for `run`, a token of 16 hex digits.

    Raises:
        FlamesError: the token has another form, with which it could name any folder; or the node's
            configuration names no folder.
    """
    check_token(run)
    if settings.client_state is None:
        raise FlamesError(
            "this run needs a folder for the client state, and the node's configuration names none; "
            "pass --node-config 'client-state=\"FOLDER\"'"
        )
    return client_folder(settings.client_state, run, client)
