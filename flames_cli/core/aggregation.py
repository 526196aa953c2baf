"""One round: reports are checked as they come, blended group by group, and move the groups' models.

Knows nothing of Flower, torch or files.
"""

from collections.abc import Collection, Iterable, Mapping

from flames_cli.arrays import Weights
from flames_cli.core.algorithm import Algorithm
from flames_cli.core.blending import RunningSum
from flames_cli.core.blends import make_blend
from flames_cli.core.privacy import NoiseKey, PrivateMean, Release
from flames_cli.core.reports import (
    Entries,
    LastReport,
    Report,
    RoundResult,
    State,
    find_fault,
    refuse,
    select,
)
from flames_cli.core.server_steps import Memory, adam_step, control_step, momentum_step


def apply_round(
    state: State,
    reports: Iterable[Report],
    algorithm: Algorithm,
    entries: Entries | None = None,
    n_clients: Mapping[str, int] | None = None,
    noise: NoiseKey | None = None,
) -> RoundResult:
    """One round: check every report as it comes, then blend and step group by group.

    A refused report leaves the round to the others; a group without a good report keeps its models and its
    memory. Means need one running sum or two a group; only FLAMES keeps its reports, which become the
    personalised models. The order in which reports come does not matter beyond rounding, and `state` is not
    changed.

    Args:
        state: after the round before.
        reports: of this round, one at a time.
        algorithm: how they become models.
        entries: which entries are what; None: as `Entries.of` has it.
        n_clients: clients by group, also those that do not report (for SCAFFOLD); None: those that report.
        noise: what an algorithm with privacy blurs models by.

    Raises:
        ValueError: a group has more reports than `n_clients` has clients (SCAFFOLD).
    """
    groups = {
        name: _Group(
            algorithm,
            start,
            entries or Entries.of(start),
            Release(noise, state.round + 1, name) if noise else None,
        )
        for name, start in state.server.items()
    }
    styles = dict(state.styles)
    accepted: dict[str, str] = {}
    refused: dict[str, str] = {}
    for report in reports:
        group = algorithm.group_of(report.client, report.modality)
        if reason := _refuse_in_round(report, group, groups, accepted):
            refused[report.client] = reason
        else:
            accepted[report.client] = group
            groups[group].add(report)
            if report.style is not None and groups[group].lends_style:
                styles[report.client] = report.style
        del report  # or it would be held while the next one is waited for
    server, personal, memory = dict(state.server), dict(state.personal), dict(state.memory)
    for name, gathered in groups.items():
        if gathered.n_reports:
            n = gathered.n_reports if n_clients is None else n_clients.get(name, 0)
            server[name], memory[name] = gathered.finish(memory.get(name, {}), state.round + 1, n)
            personal.update(gathered.personal())
    memory = {name: kinds for name, kinds in memory.items() if kinds}
    round_ = state.round + 1
    clients = state.clients | {client: LastReport(group, round_) for client, group in accepted.items()}
    releases = state.releases + (algorithm.privacy is not None)
    after = State(round_, server, personal, memory, styles, clients, releases)
    return RoundResult(after, tuple(accepted), refused)


class _Group:
    """The clients of one model in one round: checks their reports, gathers them, and makes the new model."""

    def __init__(
        self, algorithm: Algorithm, start: Weights, entries: Entries, release: Release | None = None
    ) -> None:
        self._algorithm = algorithm
        self._start = start
        self._shared = entries.shared_of(start)
        self._parameters = entries.parameters_of(start)
        self._style = select(start, entries.style)
        self._blend = make_blend(algorithm, start, entries, release)
        self._control = RunningSum()
        self.n_reports = 0

    @property
    def lends_style(self) -> bool:
        """Whether this group's models have an image decoder to lend."""
        return bool(self._style)

    def refuse(self, report: Report) -> str | None:
        """Why `report` cannot be used, or None."""
        if problem := refuse(report, self._shared):
            return problem
        if isinstance(self._blend, PrivateMean) and (problem := self._blend.refuse(report)):
            return problem
        if self._algorithm.needs_steps and report.n_steps <= 0:
            return f"it reports {report.n_steps} steps, expected more than 0"
        if self._algorithm.local == "scaffold":
            if report.control is None:
                return "it reports no control variate, which SCAFFOLD needs; install one version everywhere"
            if problem := find_fault(report.control, self._parameters):
                return f"its control variate: {problem}"
        if (
            report.style is not None
            and self.lends_style
            and (problem := find_fault(report.style, self._style))
        ):
            return f"its image decoder: {problem}"
        return None

    def add(self, report: Report) -> None:
        """Take in a good report."""
        self.n_reports += 1
        self._blend.add(report)
        if self._algorithm.local == "scaffold" and report.control is not None:
            self._control.add(report.control, 1.0)

    def finish(self, memory: Memory, round_: int, n_clients: int) -> tuple[Weights, dict[str, Weights]]:
        """The group's new model and memory; entries that are not shared stay as they are."""
        blend = {**self._start, **self._blend.server()}
        stepped, remembered = self._step(blend, memory, round_)
        if self._algorithm.local == "scaffold":
            if n_clients < self.n_reports:
                raise ValueError(f"got {self.n_reports} reports of a group of {n_clients} clients")
            remembered |= control_step(self._parameters, self._control, memory, n_clients)
        return {**blend, **stepped}, {**memory, **remembered}

    def _step(self, blend: Weights, memory: Memory, round_: int) -> tuple[Weights, dict[str, Weights]]:
        if self._algorithm.server == "adam":
            return adam_step(self._parameters, blend, memory, self._algorithm.server_lr, round_)
        if self._algorithm.server_momentum:
            return momentum_step(self._parameters, blend, memory, self._algorithm.server_momentum)
        return {}, {}

    def personal(self) -> dict[str, Weights]:
        """By client: the entries that it has of its own from now on."""
        return self._blend.personal()


def _refuse_in_round(
    report: Report, group: str, groups: Mapping[str, _Group], accepted: Collection[str]
) -> str | None:
    if report.client in accepted:
        return "it reported twice in one round"
    if group not in groups:
        return f"there is no model for '{group}', expected one of {sorted(groups)}"
    return groups[group].refuse(report)
