"""Output to a terminal that may go away while a command runs, as after `setsid flames …` or `disown`.

A command that got no SIGHUP (docs/deployment.md) continues without its terminal. Without this module its next
line would fail with EIO and end it.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

GONE = frozenset({errno.EIO, errno.ENXIO, errno.EBADF})
"""Error codes of a write to a terminal that was closed."""


class _Terminal(io.FileIO):
    """A terminal's file descriptor; when the terminal is gone, all output to it is dropped."""

    def write(self, content: "Buffer") -> int:
        """Return the number of bytes that were written, or dropped."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for the libraries that write to it themselves
            os.close(nowhere)
            return memoryview(content).nbytes


def outlive_terminal() -> None:
    """Replace standard output and standard error, where they are a terminal, by streams that outlive it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if os.name == "posix" and isinstance(stream, io.TextIOWrapper) and stream.isatty():
            setattr(sys, name, _outliving(stream))


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    raw = _Terminal(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )
