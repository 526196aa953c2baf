"""FLAMES' blend in an asynchronous federation: each client's newest report counts, a stale one with less
weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flames_cli.arrays import Weights
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.flames_sums import FlamesSums
from flames_cli.core.federated.progress import NewestReport
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.core.federated.shelf import ClientModels, Load, Shelf, StoredModels


class AgedReports:
    """Reports of the clients of one modality, each with its weight s by staleness at one version.

    FLAMES' sums become S = Σ sₖ·wₖ/nₖ and T = Σ sₖ/nₖ, and the server's model Σ sₖ·wₖ / Σ sₖ. A client's own
    share stays `flames_alpha(K)`. If all reports are fresh, all results have the bits of rounds in step.
    """

    def __init__(self, reports: Mapping[str, NewestReport], buffering: Buffering, version: int) -> None:
        """Prepare the blend of `reports` by client, of which there is at least one, at `version`."""
        # Sorted by name, so that the order of arrival does not change how sums are rounded.
        self._reports = dict(sorted(reports.items()))
        self._weights = [buffering.weight(version - one.began) for one in self._reports.values()]
        self._models = StoredModels([one.load for one in self._reports.values()])
        self._counts = {
            client: one.n_examples / weight
            for (client, one), weight in zip(self._reports.items(), self._weights, strict=True)
        }
        self._sums: FlamesSums | None = None

    def server(self) -> Weights:
        """Return the server's model."""
        return weighted_mean(self._models, self._weights)

    def personalised(self, client: str) -> Weights:
        """Return the model of one of the clients."""
        if self._sums is None:
            self._sums = FlamesSums(self._models, list(self._counts.values()))
        return self._sums.personalise(self._reports[client].load(), self._counts[client])

    def __iter__(self) -> Iterator[str]:
        return iter(self._reports)


@dataclass(frozen=True, slots=True)
class Aged:
    """Reports of an asynchronous federation before a new version is made."""

    buffering: Buffering
    version: int
    """The newest version, which the new one follows."""
    older: Mapping[str, NewestReport] = field(default_factory=dict)
    """Reports that were part of the newest version, by client (FLAMES only)."""
    arrived: Mapping[str, NewestReport] = field(default_factory=dict)
    """Newest reports of the buffer, by client (FLAMES only)."""
    starts: Mapping[str, Load] = field(default_factory=dict)
    """Models with which these clients began, if they differ from the newest ones."""


class AgedFlamesBlend(Blend):
    """A personalised model for each client that has ever reported."""

    def __init__(self, shelf: Shelf, aged: Aged) -> None:
        self._shelf, self._aged = shelf, aged
        self._members = dict(aged.older)
        self._reports: AgedReports | None = None

    def add(self, report: Report) -> None:
        """Let the report that arrived replace the client's older one."""
        self._members[report.client] = self._aged.arrived[report.client]

    def server(self) -> Weights:
        """Return the mean, weighted by staleness."""
        return self._blend().server()

    def personal(self) -> Mapping[str, Weights]:
        """Return the model of each client."""
        reports = self._blend()
        return ClientModels({name: self._shelf.keep_model(reports.personalised(name)) for name in reports})

    def _blend(self) -> AgedReports:
        if self._reports is None:
            self._reports = AgedReports(self._members, self._aged.buffering, self._aged.version)
        return self._reports
