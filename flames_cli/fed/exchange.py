"""Messages out, replies in: as they come, so that no more of them are held than must be."""

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message
from flwr.serverapp import Grid

POLL_SECONDS = 0.2


def exchange(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Send each message and give replies as they come, so that no more of them are held than must be."""
    waiting: set[str] = set()
    for message in messages:
        waiting.update(grid.push_messages([message]))
        yield from _pull(grid, waiting)
    while waiting:
        before = len(waiting)
        yield from _pull(grid, waiting)
        if len(waiting) == before:
            time.sleep(POLL_SECONDS)


def _pull(grid: Grid, waiting: set[str]) -> Iterator[Message]:
    for reply in grid.pull_messages(set(waiting)):
        waiting.discard(reply.metadata.reply_to_message_id)
        yield reply
