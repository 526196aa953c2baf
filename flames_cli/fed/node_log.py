"""Plain sentences in a node's log, for the person who runs the node."""

import sys

from flames_cli.fed.node import NodeSettings

PREFIX = "FLAMES: "
"""Beginning of each such line in the log; `flames deploy node` shows the rest."""


def say(settings: NodeSettings, sentence: str) -> None:
    """Write a sentence to the log of a real node; simulated nodes write nothing."""
    if settings.private:
        print(f"{PREFIX}{sentence}", file=sys.stderr, flush=True)
