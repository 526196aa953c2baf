"""What a node tells of its own test set: means and numbers of cases.

A case's own score is told only where the node's owner lets it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import METRICS
from flames_cli.fed.messages import METRICS as METRICS_RECORD
from flames_cli.fed.messages import REPORT
from flames_cli.store.files.atomic import finite

FIELDS = ("mean", "sd", "n", "n_infinite")


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """A client's model on the client's own test set of `n` cases."""

    __test__ = False
    """Not a test of pytest's."""
    client: str
    modality: str
    n: int
    metrics: dict[str, Summary]
    cases: dict[str, list[float]] = field(default_factory=dict)
    """By metric: every case's, from the lowest to the highest, so that none is known by its place."""

    def as_json(self) -> dict[str, Any]:
        """A line of client-tests.json."""
        metrics = {name: {key: getattr(value, key) for key in FIELDS} for name, value in self.metrics.items()}
        told = {"client": self.client, "modality": self.modality, "n": self.n, "metrics": metrics}
        line: dict[str, Any] = finite({**told, **({"cases": self.cases} if self.cases else {})})
        return line


def pack_evaluation(report: EvaluationReport, request: Message) -> Message:
    """A client's answer to a request to test."""
    numbers: dict[str, float | int | list[float]] = {"n": report.n}
    for name, value in report.metrics.items():
        numbers |= {f"{name}.{key}": getattr(value, key) for key in FIELDS}
    numbers |= {f"{name}.cases": values for name, values in report.cases.items()}
    identity = ConfigRecord({"client": report.client, "modality": report.modality})
    return Message(
        RecordDict({REPORT: identity, METRICS_RECORD: MetricRecord(dict(numbers))}), reply_to=request
    )


def unpack_evaluation(reply: Message) -> EvaluationReport:
    """The report in `reply`. Raises KeyError, TypeError or ValueError where it is none."""
    identity = reply.content.config_records[REPORT]
    numbers: Mapping[str, Any] = reply.content.metric_records[METRICS_RECORD]
    return EvaluationReport(
        client=str(identity["client"]),
        modality=str(identity["modality"]),
        n=int(numbers["n"]),
        metrics={name: _summary(name, numbers) for name in METRICS},
        cases={
            name: [float(value) for value in numbers[f"{name}.cases"]]
            for name in METRICS
            if f"{name}.cases" in numbers
        },
    )


def _summary(name: str, numbers: Mapping[str, Any]) -> Summary:
    mean, sd, n, n_infinite = (numbers[f"{name}.{key}"] for key in FIELDS)
    return Summary(float(mean), float(sd), int(n), int(n_infinite))
