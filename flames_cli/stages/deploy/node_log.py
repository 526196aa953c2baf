"""Flower's log of a node in words for whoever runs it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flames_cli.flower.processes import COLOUR

CONNECTED = re.compile(r"SuperNode ID: (\d+)")
LOST = re.compile(r"Connection attempt failed, retrying")
FOUND_AGAIN = re.compile(r"Connection successful after")
ROUND = re.compile(r"\[RUN \d+, ROUND (.+)\]")
RECEIVED = re.compile(r"Receiving: (\S+) message")
SENT = re.compile(r"Sent successfully")
REFUSED = re.compile(r"(FLAMES rejects the app of run .*)")
RAISED = re.compile(r"^flames_cli\.[\w.]+: (.*)")
"""The last line of the traceback of an error of ours."""
ERROR = re.compile(r"ERROR\s*:\s*(.*)")

EXPLAINED = (
    (
        re.compile(r"\[code: 2004\]"),
        "the server does not know this site's key (is this the folder that it gave, and is the site in its "
        "`flames deploy status`?), or has yet to notice that this site's node was killed, within a minute",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED\] (.*) \("),
        "the server shows a certificate that this site's ca.crt does not trust: {}",
    ),
    (
        re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"),
        "the server does not speak TLS: it runs with --insecure, or something else answers there",
    ),
)
"""Lines by which Flower's node ends, and what they mean."""

NOISE = (
    "Exit Code: ",
    "ClientApp raised an exception",
    "Failed to initialize the connection",
    "SSL/TLS handshake error",
)


@dataclass(slots=True)
class LogReader:
    """Reads what has been added to a node's log, and says it in fewer words."""

    path: Path
    superlink: str
    connected: bool = False
    """Whether the node has reached its server since this reader began."""
    _position: int = 0
    _round: str = ""
    _lost: bool = False

    def skip(self) -> None:
        """Leave what is there unread."""
        self._position = self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[str]:
        """The news since the last look; a line that is still being written is left for the next."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        return list(self._news(whole.decode("utf-8", errors="replace").splitlines()))

    def _news(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            said = self._say(COLOUR.sub("", line))
            if said:
                yield said

    def _say(self, line: str) -> str | None:
        if found := CONNECTED.search(line):
            self.connected, self._lost = True, False
            return f"connected to {self.superlink} (node {found[1]})"
        if LOST.search(line):
            return self._say_lost()
        if FOUND_AGAIN.search(line):
            return self._say_found_again()
        if found := ROUND.search(line):
            self._round = found[1]
            return None
        if found := RECEIVED.search(line):
            return f"round {self._round}: {found[1]}" if self._round else found[1]
        if SENT.search(line):
            return f"round {self._round}: answered" if self._round else "answered"
        return _say_error(line)

    def _say_lost(self) -> str | None:
        if self._lost:
            return None
        self._lost = True
        return f"no answer from {self.superlink}; trying again until there is one"

    def _say_found_again(self) -> str | None:
        if not self._lost:
            return None
        self._lost = False
        return f"{self.superlink} answers again"


def _say_error(line: str) -> str | None:
    for pattern, meaning in EXPLAINED:
        if found := pattern.search(line):
            return meaning.format(*found.groups())
    if found := REFUSED.search(line):
        return found[1]
    if found := RAISED.search(line):
        return f"could not do it: {found[1]}"
    found = ERROR.search(line)
    return None if found is None or found[1].startswith(NOISE) else found[1]
