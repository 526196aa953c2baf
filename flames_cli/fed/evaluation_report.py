"""A client's report on its own test set: means and numbers of cases.

The scores of single cases are reported only if the node's owner allows it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import REPORTED_METRICS
from flames_cli.fed.messages import METRICS, REPORT
from flames_cli.store.files.atomic import finite

FIELDS = ("mean", "sd", "n", "n_infinite")
"""Fields of a `Summary`, as they travel."""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Scores of a client's model on the client's own test set."""

    client: str
    modality: str
    n: int
    """Number of test cases."""
    metrics: dict[str, Summary]
    cases: dict[str, list[float]] = field(default_factory=dict)
    """Scores of all cases by metric, sorted, so that the position reveals no case; empty: not reported."""

    def as_json(self) -> dict[str, Any]:
        """Return the client's entry in client-tests.json."""
        entry: dict[str, Any] = {
            "client": self.client,
            "modality": self.modality,
            "n": self.n,
            "metrics": {
                name: {key: getattr(value, key) for key in FIELDS} for name, value in self.metrics.items()
            },
        }
        if self.cases:
            entry["cases"] = self.cases
        finite_entry: dict[str, Any] = finite(entry)
        return finite_entry


def pack_evaluation(report: EvaluationReport, request: Message) -> Message:
    """Return a client's reply to the request to evaluate a model."""
    numbers: dict[str, float | int | list[float]] = {"n": report.n}
    for name, value in report.metrics.items():
        numbers |= {f"{name}.{key}": getattr(value, key) for key in FIELDS}
    numbers |= {f"{name}.cases": values for name, values in report.cases.items()}
    identity = ConfigRecord({"client": report.client, "modality": report.modality})
    return Message(RecordDict({REPORT: identity, METRICS: MetricRecord(dict(numbers))}), reply_to=request)


def unpack_evaluation(reply: Message) -> EvaluationReport:
    """Return the report in `reply`.

    Raises:
        KeyError, TypeError, ValueError: the reply does not contain a valid report.
    """
    identity = reply.content.config_records[REPORT]
    numbers: Mapping[str, Any] = reply.content.metric_records[METRICS]
    return EvaluationReport(
        client=str(identity["client"]),
        modality=str(identity["modality"]),
        n=int(numbers["n"]),
        metrics={name: _summary(name, numbers) for name in REPORTED_METRICS},
        cases={
            name: [float(value) for value in numbers[f"{name}.cases"]]
            for name in REPORTED_METRICS
            if f"{name}.cases" in numbers
        },
    )


def _summary(name: str, numbers: Mapping[str, Any]) -> Summary:
    mean, sd, n, n_infinite = (numbers[f"{name}.{key}"] for key in FIELDS)
    found = Summary(float(mean), float(sd), int(n), int(n_infinite))
    most = math.inf if name == "hausdorff_px" else 1.0
    possible = found.n >= 0 and found.n_infinite >= 0 and (found.n == 0 or 0 <= found.mean <= most)
    if not possible:  # also with the mean NaN
        raise ValueError(f"{name} has the mean {found.mean:g} of {found.n} cases")
    return found
