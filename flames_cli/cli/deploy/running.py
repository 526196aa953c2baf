"""What the commands that run for weeks print."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.stages.deploy.foreground import Notify

INSECURE_SERVER = (
    "INSECURE: no TLS, and no node is asked for a key.",
    "Whoever reaches this port can join as a hospital, take the model and spoil it,",
    "and whoever is on the way can read and change everything that is sent.",
    "For a trial on one machine only: never with patients' data, never on a network.",
)
INSECURE_NODE = (
    "INSECURE: no TLS, and the server is not asked who it is.",
    "Whoever is on the way can read and change everything that is sent,",
    "and whoever answers at that address is taken for the server.",
    "For a trial on one machine only: never with patients' data, never on a network.",
)


def shout(lines: tuple[str, ...]) -> None:
    """A red block on stderr."""
    from flames_cli.cli.consoles import watching

    console = watching()
    width = max(map(len, lines))
    for line in lines:
        console.print(f" {line:<{width}} ", style="bold white on red", soft_wrap=True)


def line_printer(console: "Console") -> "Notify":
    """Return a function that prints a line with the time."""

    def print_line(line: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)

    return print_line
