"""The line in rounds.jsonl of a version of an asynchronous federation."""

import time
from dataclasses import dataclass, field
from typing import Any

from flames_cli.core.federated.reports import Report, RoundResult
from flames_cli.fed.asynchronous.sent import Sent
from flames_cli.fed.round_record import finish_record, moved_of


@dataclass(slots=True)
class VersionRecord:
    """Times and numbers of a version while it is made, for its record."""

    round: int
    """Number of the version."""
    started: float = field(default_factory=time.monotonic)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entry of each client of which a report arrived, with the numbers of its newest one."""
    staleness: dict[str, list[int]] = field(default_factory=dict)
    """Staleness of each report in the buffer, in order of arrival, by client."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason of each report that could not be used, by client."""
    bytes_down: int = 0
    bytes_up: int = 0

    def note_arrival(self, sent: Sent) -> None:
        """Note the time until a client's reply."""
        seconds = time.monotonic() - sent.sent_at if sent.sent_at else 0.0
        self.entries[sent.client] = {
            "client": sent.client,
            "modality": sent.profile.modality,
            "seconds": round(seconds, 3),
        }

    def note_report(self, sent: Sent, report: Report) -> None:
        """Note a report that entered the buffer."""
        training = sent.training
        self.staleness.setdefault(sent.client, []).append(self.round - 1 - training.began)
        self.failed.pop(sent.client, None)
        self.entries[sent.client] |= {
            **report.metrics,
            "n_examples": report.n_examples,
            "n_steps": report.n_steps,
            "training": training.number,
            "began": training.began,
        }

    def as_json(self, result: RoundResult, rejected: dict[str, str], clock_seconds: float) -> dict[str, Any]:
        """Return the line; `clock_seconds` is the time since the run began, virtual in a simulation."""
        begun = {
            "round": self.round,
            "seconds": round(time.monotonic() - self.started, 3),
            "clock_seconds": round(clock_seconds, 3),
            "clients": [self._entry(client, result, rejected) for client in sorted(self.entries)],
        }
        return finish_record(begun, result, rejected, self.bytes_down, self.bytes_up)

    def _entry(self, client: str, result: RoundResult, rejected: dict[str, str]) -> dict[str, Any]:
        entry = self.entries[client]
        if client in rejected:
            known = {name: entry[name] for name in ("client", "modality", "seconds")}
            return {**known, "rejection_reason": rejected[client]}
        return {**entry, "staleness": self.staleness.get(client, []), **moved_of(client, result)}
