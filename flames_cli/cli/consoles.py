"""Where a person reads. Text is taken as it stands: a path with [brackets] or :colons: is no markup, and what
would steer the terminal is shown as ?, for names of files and nodes may hold anything.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from flames_cli.cli.text import harmless


class _SafeConsole(Console):
    """Colours and cursor moves are rich's own alone."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich renders it, every text made harmless."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def results() -> Console:
    """Standard output: what a command found."""
    return _SafeConsole(markup=False, emoji=False, highlight=False)


def watching() -> Console:
    """Standard error: progress, for whoever watches."""
    return _SafeConsole(stderr=True, markup=False, emoji=False, highlight=False)
