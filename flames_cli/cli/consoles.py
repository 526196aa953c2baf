"""Consoles for standard output and standard error.

Text is printed unchanged: a path with [brackets] or :colons: is not markup. A character that would control
the terminal is shown as ?, since names of files and nodes may contain any character.
"""

from collections.abc import Iterable

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from flames_cli.cli.text import harmless


class _SafeConsole(Console):
    """Console whose colours and cursor moves come from rich only."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with control characters of the text replaced."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def results() -> Console:
    """Return the console for results, on standard output."""
    return _SafeConsole(markup=False, emoji=False, highlight=False)


def watching() -> Console:
    """Return the console for progress and notes, on standard error; with --quiet it shows nothing."""
    context = click.get_current_context(silent=True)
    quiet = bool(context and context.params.get("quiet"))
    return _SafeConsole(stderr=True, markup=False, emoji=False, highlight=False, quiet=quiet)
