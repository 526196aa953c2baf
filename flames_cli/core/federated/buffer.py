"""The buffer of an asynchronous federation: its reports together make the next version of the models.

Sources: the buffer and the mean of differences are FedBuff's (Nguyen et al. 2022), the weight by staleness is
FedAsync's (Xie et al. 2019). In FLAMES every client's newest report stays in the sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flames_cli.core.federated.aged_flames_blend import Aged, AgedReports
from flames_cli.core.federated.aggregation import OpenRound, RoundSettings
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.progress import NewestReport, Progress, Training
from flames_cli.core.federated.reports import Entries, Report, RoundResult, State
from flames_cli.core.federated.shelf import ClientModels, Load
from flames_cli.core.federated.staleness import rebase


@dataclass(frozen=True, slots=True)
class Arrival:
    """A report in the buffer."""

    report: Report
    """The report without its weights."""
    load: Load
    """Function that returns its weights."""
    began: int
    """Version of the model with which its client began."""
    start: Load
    """Function that returns the shared entries of that model."""


class Buffer:
    """Reports that arrived after the newest version, in the order of their arrival."""

    def __init__(
        self,
        state: State,
        algorithm: Algorithm,
        entries: Entries,
        settings: RoundSettings,
        largest: int | None = None,
    ) -> None:
        """Prepare an empty buffer after the version `state`, for an algorithm with `buffering`; `largest` is
        the largest number of reports that it waits for."""
        self._state = state
        self._algorithm = algorithm
        self._entries = entries
        self._settings = settings
        self._buffering = algorithm.buffering or Buffering(1)
        self._largest = largest
        self._checks = OpenRound(state, algorithm, entries, settings)
        self._progress = state.progress or Progress()
        self.arrivals: list[Arrival] = []

    @property
    def is_full(self) -> bool:
        """True if the reports suffice for the next version."""
        return len(self.arrivals) >= min(self._buffering.size, self._largest or self._buffering.size)

    def add(self, report: Report, training: Training, start: Load) -> str | None:
        """Add the report on `training`, which began with the weights `start`; return why it cannot be used,
        or None."""
        if fault := self._checks.fault(report):
            return fault
        keep = self._settings.shelf.keep_model if self._keeps_newest else self._settings.shelf.keep_report
        rest = replace(report, weights={})
        self.arrivals.append(Arrival(rest, keep(report.weights), training.began, start))
        return None

    def staleness(self, began: int) -> int:
        """Return the staleness of a report whose client began with version `began`."""
        return self._state.round - began

    def model_of(self, client: str, group: str) -> tuple[str, Load]:
        """Return the name and the weights of the model that a client without work trains next.

        It is the client's model of the newest version. In FLAMES, a client whose report waits in the buffer
        gets its own blend of this report and of the others' reports in the newest version, so that its work
        is not lost; a report of another client has no effect before the next version.
        """
        waiting = self._newest_arrivals().get(client) if self._keeps_newest else None
        if waiting is not None:
            reports = AgedReports(
                {**self._progress.newest, client: waiting}, self._buffering, self._state.round
            )
            return f"client {client}", self._settings.shelf.keep_model(reports.personalised(client))
        if client in self._state.personal:
            return f"client {client}", ClientModels.of(self._state.personal).load_of(client)
        server = self._entries.shared_of(self._state.server[group])
        return f"version {self._state.round} of {group}", lambda: server

    def flush(self, n_clients: Mapping[str, int]) -> RoundResult:
        """Return the next version, whose progress has the newest reports only; arguments as `apply_round`."""
        arrived = self._newest_arrivals() if self._keeps_newest else {}
        aged = Aged(
            buffering=self._buffering,
            version=self._state.round,
            older=self._progress.newest,
            arrived=arrived,
            starts={one.report.client: one.start for one in self.arrivals} if arrived else {},
        )
        settings = replace(self._settings, aged=aged)
        round_ = OpenRound(self._state, self._algorithm, self._entries, settings)
        for one in self.arrivals:
            newest = arrived.get(one.report.client)
            if newest is None or newest.load is one.load:
                round_.take(self._fresh(one))
        result = round_.close(n_clients)
        accepted = {client: arrived[client] for client in result.accepted if client in arrived}
        progress = replace(self._progress, newest={**self._progress.newest, **accepted})
        return replace(result, state=replace(result.state, progress=progress))

    @property
    def _keeps_newest(self) -> bool:
        """True if clients' reports stay in sums over versions."""
        return self._algorithm.blend == "flames"

    def _newest_arrivals(self) -> dict[str, NewestReport]:
        return {
            one.report.client: NewestReport(one.report.n_examples, one.began, one.load)
            for one in self.arrivals
        }

    def _fresh(self, one: Arrival) -> Report:
        """Return a report for the blend: a mean gets one that is moved onto the newest model."""
        report = replace(one.report, weights=one.load())
        if self._keeps_newest:
            return report
        group = self._algorithm.model_group_of(report.client, report.modality)
        model = self._entries.shared_of(self._state.server[group])
        weight = self._buffering.weight(self.staleness(one.began))
        return rebase(report, one.start(), model, self._entries, weight)
