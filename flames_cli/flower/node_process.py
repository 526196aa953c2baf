"""The node's side of the process that answers messages (`clientapp_process`): its start, checks and end."""

import subprocess
import sys
import time
from contextlib import suppress

import psutil

MEMORY_SHARE = 0.5
"""Largest share of the machine's memory that the process may use between two messages."""

MESSAGES = 500
"""Number of messages after which the process is replaced, since memory may leak slowly."""

IDLE_SECONDS = 600.0
"""Time without a message after which the process ends, so that it uses no memory between runs."""

END_SECONDS = 10.0
"""Time that the process has to end before it is killed."""


class NodeProcess:
    """The process that answers a node's messages; it is started again when it has ended.

    Between messages it is replaced if it uses too much memory or has answered many messages, or if a message
    has failed, since nobody knows what state a failure leaves behind.
    """

    def __init__(self, address: str) -> None:
        self._command = [sys.executable, "-m", "flames_cli.flower", "clientapp", address]
        self._process: subprocess.Popen[bytes] | None = None
        self._messages = 0
        self._last = time.monotonic()

    def wake(self) -> None:
        """Let the process answer the message that waits at the node."""
        self._last = time.monotonic()
        if self.has_ended():
            self.start()
        self._messages += 1
        process = self._process
        assert process is not None
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has just ended, which `has_ended` reports
            process.stdin.write(b"\n")
            process.stdin.flush()

    def has_ended(self) -> bool:
        """Return True if no process runs."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start the process, in place of one that has ended."""
        self.end()
        self._messages = 0
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)

    def finish(self, failed: bool) -> None:
        """Replace the process after a message if that is due; `failed`: it could not do what was asked."""
        self._last = time.monotonic()
        if failed or self.has_ended() or self._messages >= MESSAGES or self._is_large():
            self.start()

    def rest(self) -> None:
        """End the process if there was no message for long; start a new one if it has ended by itself.

        One that has ended before its first message would end again: the next message starts it.
        """
        if self._process is None:
            return
        if time.monotonic() - self._last > IDLE_SECONDS:
            self.end()
        elif self.has_ended() and self._messages:
            self.start()

    def end(self) -> None:
        """End the process if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _is_large(self) -> bool:
        assert self._process is not None
        with suppress(psutil.Error):
            used = int(psutil.Process(self._process.pid).memory_info().rss)
            return used > MEMORY_SHARE * int(psutil.virtual_memory().total)
        return False
