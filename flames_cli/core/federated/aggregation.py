"""One round: reports are checked as they come, blended group by group, and move the groups' models.

Knows nothing of Flower, torch or files.
"""

from collections.abc import Iterable, Mapping

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blends import make_blend
from flames_cli.core.federated.privacy import NoiseKey, Release
from flames_cli.core.federated.reports import (
    Entries,
    LastReport,
    Moved,
    Report,
    RoundResult,
    State,
    find_fault,
    rejection_reason,
    select,
)
from flames_cli.core.federated.running_sum import RunningSum
from flames_cli.core.federated.server_steps import OptimiserState, adam_step, control_step, momentum_step
from flames_cli.core.federated.update_norms import FEWEST, NO_LIMIT, NormLimit, known_moves


def apply_round(
    state: State,
    reports: Iterable[Report],
    algorithm: Algorithm,
    entries: Entries | None = None,
    n_clients: Mapping[str, int] | None = None,
    limit: NormLimit = NO_LIMIT,
    noise: NoiseKey | None = None,
) -> RoundResult:
    """One round: check every report as it comes, then blend and step group by group.

    A refused report leaves the round to the others; a group without a good report keeps its models and its
    optimiser_state. Means need one running sum or two a group; FLAMES keeps its reports, which become the
    personalised models, and so do means that bear bad reports; with a limit, so does a group while earlier
    reports of fewer than two others are known to compare with. The order in which reports come does not
    matter beyond rounding, and `state` is not changed.

    Args:
        state: after the round before.
        reports: of this round, one at a time.
        algorithm: how they become models.
        entries: which entries are what; None: as `Entries.of` has it.
        n_clients: clients by group, also those that do not report (for SCAFFOLD); None: those that report.
        limit: how far a client may move.
        noise: what an algorithm with privacy blurs models by.

    Raises:
        ValueError: a group has more reports than `n_clients` has clients (SCAFFOLD).
    """
    gathered = _Gathered(state, algorithm, entries, limit, noise)
    for report in reports:
        gathered.take(report)
        del report  # or it would be held while the next one is waited for
    gathered.judge_held()
    gathered.drop_groups_too_few()
    return gathered.result(n_clients)


class _Gathered:
    """The reports of a round: taken into their groups, or refused and why."""

    def __init__(
        self,
        state: State,
        algorithm: Algorithm,
        entries: Entries | None,
        limit: NormLimit,
        noise: NoiseKey | None,
    ) -> None:
        self._state = state
        self._algorithm = algorithm
        self._limit = limit
        self._groups = {
            name: _ModelGroup(
                algorithm,
                start,
                entries or Entries.of(start),
                Release(noise, state.round + 1, name) if noise else None,
            )
            for name, start in state.server.items()
        }
        self._held: dict[str, tuple[Report, Moved]] = {}
        self._styles: dict[str, Weights] = {}
        self._accepted: dict[str, LastReport] = {}
        self._rejected: dict[str, str] = {}

    def take(self, report: Report) -> None:
        """Add `report` to its group, hold it until there are others to compare with, or refuse it."""
        client, name = report.client, self._algorithm.model_group_of(report.client, report.modality)
        if reason := self._rejection_reason(report, name):
            self._rejected[client] = reason
            return
        sent = self._state.model_for(client, name)
        moved = self._limit.measure(report, sent, self._groups[name].entries)
        known = known_moves(self._state.clients, client)
        shared = self._limit.is_set and self._algorithm.clients_share_models
        if shared and sum(last.group == name for last in known.values()) < FEWEST:
            self._held[client] = report, moved
        else:
            self._judge(report, name, moved, known)

    def _rejection_reason(self, report: Report, group: str) -> str | None:
        if report.client in self._accepted or report.client in self._held:
            return "it reported twice in one round"
        if group not in self._groups:
            return f"there is no model for '{group}', expected one of {sorted(self._groups)}"
        return self._groups[group].rejection_reason(report)

    def _judge(self, report: Report, name: str, moved: Moved, others: Mapping[str, LastReport]) -> None:
        group = [last.moved for last in others.values() if last.group == name]
        elsewhere = [last.moved for last in others.values() if last.group != name]
        if reason := self._limit.rejection_reason(report, moved, group, elsewhere):
            self._rejected[report.client] = reason
            return
        # With privacy nothing of a single client is kept: how far one moved would stand in the checkpoint.
        kept = Moved() if self._algorithm.privacy else moved
        self._accepted[report.client] = LastReport(name, self._state.round + 1, kept)
        self._groups[name].add(report)
        if report.style is not None and self._groups[name].lends_style:
            self._styles[report.client] = report.style

    def judge_held(self) -> None:
        """Compare the reports that were held with the newest one of every other client."""
        newest = {**self._state.clients, **self._accepted}
        for client, (report, moved) in self._held.items():
            name = self._algorithm.model_group_of(client, report.modality)
            newest[client] = LastReport(name, self._state.round + 1, moved)
        while self._held:
            client = next(iter(self._held))
            report, moved = self._held.pop(client)
            self._judge(report, newest[client].group, moved, known_moves(newest, client))

    def drop_groups_too_few(self) -> None:
        """Refuse the reports of groups that cannot be blended of so few."""
        for name, group in self._groups.items():
            if group.n_reports and (reason := group.shortage()):
                clients = [client for client, last in self._accepted.items() if last.group == name]
                for client in clients:
                    self._rejected[client] = reason
                    self._accepted.pop(client)
                    self._styles.pop(client, None)
                group.n_reports = 0

    def result(self, n_clients: Mapping[str, int] | None) -> RoundResult:
        """The round's outcome: every group that has reports is blended."""
        state, round_ = self._state, self._state.round + 1
        server, personal = dict(state.server), dict(state.personal)
        optimiser_state = dict(state.optimiser_state)
        for name, group in self._groups.items():
            if group.n_reports:
                n = group.n_reports if n_clients is None else n_clients.get(name, 0)
                server[name], optimiser_state[name] = group.finish(optimiser_state.get(name, {}), round_, n)
                personal.update(group.personal())
        optimiser_state = {name: kinds for name, kinds in optimiser_state.items() if kinds}
        styles, clients = {**state.styles, **self._styles}, {**state.clients, **self._accepted}
        releases = state.releases + (self._algorithm.privacy is not None)
        after = State(
            round=round_,
            server=server,
            personal=personal,
            optimiser_state=optimiser_state,
            styles=styles,
            clients=clients,
            releases=releases,
        )
        unchanged = tuple(name for name, group in self._groups.items() if not group.n_reports)
        return RoundResult(after, tuple(self._accepted), self._rejected, unchanged)


class _ModelGroup:
    """The clients of one model in one round: checks their reports, gathers them, and makes the new model."""

    def __init__(
        self, algorithm: Algorithm, start: Weights, entries: Entries, release: Release | None = None
    ) -> None:
        self._algorithm = algorithm
        self._start = start
        self.entries = entries
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

    def rejection_reason(self, report: Report) -> str | None:
        """Why `report` cannot be used, or None."""
        if problem := rejection_reason(report, self._shared, self.entries.variances):
            return problem
        if problem := self._blend.rejection_reason(report):
            return problem
        if self._algorithm.needs_steps and report.n_steps <= 0:
            return f"it reports {report.n_steps} steps, expected more than 0"
        if self._algorithm.clients_correct_gradients:
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
        if self._algorithm.clients_correct_gradients and report.control is not None:
            self._control.add(report.control, 1.0)

    def shortage(self) -> str | None:
        """Why there are too few reports to blend, or None."""
        return self._blend.shortage()

    def finish(self, old: OptimiserState, round_: int, n_clients: int) -> tuple[Weights, dict[str, Weights]]:
        """The group's new model and optimiser_state; entries that are not shared stay as they are."""
        blend = {**self._start, **self._blend.server()}
        stepped, changed = self._step(blend, old, round_)
        if self._algorithm.clients_correct_gradients:
            if n_clients < self.n_reports:
                raise ValueError(f"got {self.n_reports} reports of a group of {n_clients} clients")
            changed |= control_step(self._parameters, self._control, old, n_clients)
        return {**blend, **stepped}, {**old, **changed}

    def _step(self, blend: Weights, old: OptimiserState, round_: int) -> tuple[Weights, dict[str, Weights]]:
        if self._algorithm.server_steps_by_adam:
            return adam_step(self._parameters, blend, old, self._algorithm.server_lr, round_)
        if self._algorithm.server_momentum:
            return momentum_step(self._parameters, blend, old, self._algorithm.server_momentum)
        return {}, {}

    def personal(self) -> dict[str, Weights]:
        """By client: the entries that it has of its own from now on."""
        return self._blend.personal()
