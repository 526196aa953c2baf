"""The parts of a round's line in rounds.jsonl that rounds of several kinds have."""

from collections.abc import Mapping
from typing import Any

import psutil

from flames_cli.core.federated.reports import RoundResult


def moved_of(client: str, result: RoundResult) -> dict[str, float]:
    """Return the distance by which an accepted report moved the weights, divided by the learning rate."""
    norms = result.state.clients[client].moved.norms if client in result.accepted else {}
    return {"update_norm": norms["weights"]} if norms else {}


def finish_record(
    begun: Mapping[str, Any],
    result: RoundResult,
    rejected: Mapping[str, str],
    bytes_down: int,
    bytes_up: int,
) -> dict[str, Any]:
    """Return a round's line in rounds.jsonl.

    Args:
        begun: its first entries: number, times, and the numbers of clients or groups.
        result: outcome of the round.
        rejected: reason of each client whose report was not used.
        bytes_down: bytes of all messages to the clients.
        bytes_up: bytes of all messages from the clients.
    """
    return {
        **begun,
        "accepted": list(result.accepted),
        "unchanged_groups": list(result.unchanged_groups),
        "rejected": dict(rejected),
        "bytes_down": bytes_down,
        "bytes_up": bytes_up,
        "rss_mb": round(psutil.Process().memory_info().rss / 2**20, 1),
    }
