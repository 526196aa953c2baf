"""Output of the commands that run until they are ended."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.stages.deploy.foreground import Notify

INSECURE_SERVER = (
    "INSECURE: no TLS, and nodes need no key.",
    "Anyone who reaches this port can join as a hospital, copy the model and damage it,",
    "and anyone on the network can read and change all messages.",
    "For a trial on one machine only: never with patients' data, never on a network.",
)
INSECURE_NODE = (
    "INSECURE: no TLS, and the server's identity is not checked.",
    "Anyone on the network can read and change all messages,",
    "and any program that answers at that address is accepted as the server.",
    "For a trial on one machine only: never with patients' data, never on a network.",
)


def print_warning(lines: tuple[str, ...]) -> None:
    """Print a warning as a red block on stderr."""
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
