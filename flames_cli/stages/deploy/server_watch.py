"""Changes that a running server notices: certificates that expire or were renewed, and second nodes."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flames_cli.stages.deploy.check_files import check_server_dates
from flames_cli.stages.deploy.new_lines import NewLines
from flames_cli.store.deployment.folders import Deployment

REFUSED = re.compile(rb"SuperNode with node ID (\d+) could not be activated")
"""Text in the log of Flower's server when a node connects with the key of a node that is online."""


class Certificates:
    """The certificates with which a server was started, compared with its files and with the clock."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._used = self._read()
        self._given: set[str] = set()
        list(self.read_notes())  # the command has said already what is true at its start

    def read_notes(self) -> Iterator[str]:
        """Yield what is new since the last call: a certificate expires soon, has expired, or was renewed."""
        if self._read() != self._used:
            notes = ["server.crt was renewed, and the server still uses the earlier one; restart the server"]
        else:
            findings = check_server_dates(self._deployment)
            notes = [f"{one.what}; {one.fix}" for one in findings if one.state != "ok"]
        yield from (note for note in notes if _day_of(note) not in self._given)
        self._given = {_day_of(note) for note in notes}

    def _read(self) -> bytes:
        with suppress(OSError):
            return self._deployment.server_certificate.read_bytes()
        return b""


def _day_of(note: str) -> str:
    """Return a note without the minute of its clock, so that it is given once a day."""
    return re.sub(r"\d\d:\d\d UTC", "", note)


class SecondNodes:
    """Nodes that tried to connect with the key of a node that is online, as Flower's log names them."""

    def __init__(self, log: Path) -> None:
        self._lines = NewLines(log)
        self._lines.skip()
        self._given: set[int] = set()

    def read(self) -> list[int]:
        """Return the node ids in the lines since the last call, each only once."""
        found = dict.fromkeys(int(one) for one in REFUSED.findall(self._lines.read()))
        fresh = [one for one in found if one not in self._given]
        self._given.update(fresh)
        return fresh
