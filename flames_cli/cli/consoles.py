"""Where a person reads. Text is taken as it stands: a path with [brackets] or :colons: is no markup."""

from rich.console import Console


def results() -> Console:
    """Standard output: what a command found."""
    return Console(markup=False, emoji=False, highlight=False)


def watching() -> Console:
    """Standard error: progress, for whoever watches."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)
