"""How a stage tells that it goes on; who listens decides what is shown."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on: `done` of `total` steps of `task`."""

    def __call__(self, task: str, done: int, total: int) -> None:
        """Take note."""
        ...


def silent(task: str, done: int, total: int) -> None:
    """Nobody listens."""
