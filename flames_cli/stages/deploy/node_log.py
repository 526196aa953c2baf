"""Flower's log of a node, summarised for the person who runs the node."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.fed.node_log import PREFIX
from flames_cli.flower.processes import COLOUR
from flames_cli.stages.deploy.new_lines import NewLines

CONNECTED = re.compile(r"SuperNode ID: (\d+)")
LOST = re.compile(r"Connection attempt failed, retrying")
FOUND_AGAIN = re.compile(r"Connection successful after")
ASKED = re.compile(r"Receiving: query message")
SAID = re.compile(rf"^{re.escape(PREFIX)}(.*)")
"""Sentence of the process that answers the server's messages."""
REJECTED = re.compile(r"(FLAMES rejects the app of run .*)")
RAISED = re.compile(r"^flames_cli\.[\w.]+: (.*)")
"""Last line of the traceback of a FLAMES error."""
ERROR = re.compile(r"ERROR\s*:\s*(.*)")

NOT_ADMITTED = re.compile(r"\[code: 2004\]|401 Unauthorized|CERTIFICATE_VERIFY_FAILED")
"""Log lines of Flower's node whose reason the server can state better."""

EXPLAINED = (
    (
        re.compile(r"401 Unauthorized"),
        "the server rejects this node's signature: its key is another one than the server knows, or the "
        "clocks of both machines differ; `flames deploy check --site …` shows which",
    ),
    (
        re.compile(r"\[code: 2004\]"),
        "the server does not know this site's key (is this the folder that the server's operator gave you, "
        "and does `flames deploy status` list the site there?), or it has not noticed yet that this site's "
        "node was killed, which takes up to a minute",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED\] (.*) \("),
        "the server's certificate cannot be verified with this site's ca.crt: {}",
    ),
    (
        re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"),
        "the server does not use TLS: it runs with --insecure, or another program answers at that port",
    ),
)
"""Log lines of Flower's node before it ends, and their meaning."""

NOISE = (
    "Exit Code: ",
    "ClientApp raised an exception",
    "Failed to initialize the connection",
    "SSL/TLS handshake error",
)


@dataclass(slots=True)
class LogReader:
    """Reader of the lines that were added to a node's log; it summarises them."""

    path: Path
    superlink: str
    explain: Callable[[], str] = str
    """Function that returns why the server does not admit this node; empty if the server does not say so."""
    explained: bool = False
    """True if a line was read since this reader was created that says why the server does not admit the
    node."""
    connected: bool = False
    """True if the node has reached its server since this reader was created."""
    _lost: bool = False
    _lines: NewLines = field(init=False)

    def __post_init__(self) -> None:
        self._lines = NewLines(self.path)

    def skip(self) -> None:
        """Skip the lines that the log already contains."""
        self._lines.skip()

    def read(self) -> list[str]:
        """Return summaries of the lines since the last call; an unfinished last line is read next time."""
        return list(self._summaries(self._lines.read().decode("utf-8", errors="replace").splitlines()))

    def _summaries(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            summary = self._summary(COLOUR.sub("", line))
            if summary:
                yield summary

    def _summary(self, line: str) -> str | None:
        if found := CONNECTED.search(line):
            self.connected, self._lost = True, False
            return f"connected to {self.superlink} (node {found[1]})"
        if LOST.search(line):
            return self._lost_summary()
        if FOUND_AGAIN.search(line):
            return self._found_again_summary()
        if found := SAID.search(line):
            return found[1]
        if ASKED.search(line):
            return "the server asked for this site's name, modality, numbers of images and allowed plug-ins"
        if NOT_ADMITTED.search(line):
            self.explained = True
            return self.explain() or _error_summary(line)
        return _error_summary(line)

    def explain_end(self) -> str:
        """Return why a node ended that never connected and whose log does not say it; empty if it is not
        known.

        Flower's node ends without a word when the server rejects its signature, as it does if the clocks
        differ.
        """
        return "" if self.connected or self.explained else self.explain()

    def _lost_summary(self) -> str | None:
        if self._lost:
            return None
        self._lost = True
        return f"{self.superlink} does not answer; trying again until it does"

    def _found_again_summary(self) -> str | None:
        if not self._lost:
            return None
        self._lost = False
        return f"{self.superlink} answers again"


def _error_summary(line: str) -> str | None:
    for pattern, meaning in EXPLAINED:
        if found := pattern.search(line):
            return meaning.format(*found.groups())
    if found := REJECTED.search(line):
        return found[1]
    if found := RAISED.search(line):
        return f"the task failed: {found[1]}"
    found = ERROR.search(line)
    return None if found is None or found[1].startswith(NOISE) else found[1]
