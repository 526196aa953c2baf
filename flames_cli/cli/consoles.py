"""Consoles for standard output and standard error.

Text is printed unchanged: a path with [brackets] or :colons: is not markup. A character that would control
the terminal is shown as ?, since names of files and nodes may contain any character.
"""

import sys
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from flames_cli.cli.text import harmless

NARROWEST, USUAL = 40, 80
"""Least columns of a terminal that narrows a table, and of a log or a pipe."""


class _SafeConsole(Console):
    """Console whose colours and cursor moves come from rich only."""

    def __init__(self, **settings: Any) -> None:
        is_log = not (sys.stderr if settings.get("stderr") else sys.stdout).isatty()
        # FORCE_COLOR gives a log colours, and rich would also move the cursor in it.
        interactive = False if is_log else None
        super().__init__(
            markup=False, emoji=False, highlight=False, force_interactive=interactive, **settings
        )
        least = NARROWEST if self.is_terminal else USUAL
        if self.width < least:  # `COLUMNS` may be anything; a table in so few columns has no numbers
            self.width = least

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with control characters of the text replaced."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def results() -> Console:
    """Return the console for results, on standard output."""
    return _SafeConsole()


def watching() -> Console:
    """Return the console for progress and notes, on standard error; with --quiet it shows nothing."""
    context = click.get_current_context(silent=True)
    quiet = bool(context and context.params.get("quiet"))
    return _SafeConsole(stderr=True, quiet=quiet)
