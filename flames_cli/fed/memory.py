"""What a client keeps between rounds: arrays by kind, in its Flower context, which never leaves its node."""

from collections.abc import Mapping

from flwr.app import Context

from flames_cli.arrays import Weights
from flames_cli.fed.messages import arrays_of, pack_weights

CONTROL = "control"
"""SCAFFOLD's control variate of the client."""
STYLE = "style"
"""A disentangled model's style, where only content is shared."""


def recall(context: Context, kind: str) -> Weights | None:
    """What was kept of `kind`; None in a client's first round."""
    records = context.state.array_records
    return arrays_of(records[kind]) if kind in records else None


def remember(context: Context, kind: str, weights: Weights) -> None:
    """Keep `weights` as `kind` until the next round."""
    context.state[kind] = pack_weights(weights)


def read_memory(context: Context) -> dict[str, Weights]:
    """All that a client keeps, by kind."""
    return {str(kind): arrays_of(record) for kind, record in context.state.array_records.items()}


def write_memory(context: Context, memory: Mapping[str, Weights]) -> None:
    """Give a client back what `read_memory` read."""
    for kind, weights in memory.items():
        remember(context, kind, weights)
