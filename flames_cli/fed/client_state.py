"""Where a client keeps what it needs again in the next round: on its own disk, never on a server's.

One folder for every engine, so that a node goes on after a restart as a run in one process does.
"""

import re
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.node import NodeSettings
from flames_cli.store.client_state import client_folder

CONTROL = "control"
"""SCAFFOLD's control variate of the client."""
STYLE = "style"
"""A disentangled model's style, where only content is shared."""

_RUN = re.compile(r"[0-9a-f]{16}")


def client_state_folder(settings: NodeSettings, run: str, client: str) -> Path:
    """MEMORY/<run>/<client>: what `client` keeps for `run`, a token of 16 hex digits.

    Raises:
        FlamesError: another token, which could name any folder; the node's owner has set no folder.
    """
    if not _RUN.fullmatch(run):
        raise FlamesError(
            f"the run's token is {run!r}, expected 16 hex digits; install the same version everywhere"
        )
    if settings.client_state is None:
        raise FlamesError(
            "this run needs a folder for what the client keeps between rounds, and the node's configuration "
            "names none; pass --node-config 'client-state=\"FOLDER\"'"
        )
    return client_folder(settings.client_state, run, client)
