"""Progress reports of a stage; the caller decides what is shown."""

from typing import Protocol


class Progress(Protocol):
    """Callback for progress: `done` of `total` steps of `task`."""

    def __call__(self, task: str, done: int, total: int) -> None:
        """Receive one report."""
        ...


def silent(task: str, done: int, total: int) -> None:
    """Ignore the report."""
