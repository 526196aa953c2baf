"""One round at the server: check each report on arrival, then blend and step each model group.

This module imports neither Flower nor torch and touches no file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.aged_flames_blend import Aged
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.blends import make_blend
from flames_cli.core.federated.candidates import Candidates
from flames_cli.core.federated.choice import Preference, presence_reason, update
from flames_cli.core.federated.new_model import make_new_model
from flames_cli.core.federated.plugin_blend import Place
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
from flames_cli.core.federated.server_steps import OptimiserState, control_step
from flames_cli.core.federated.shelf import IN_MEMORY, ClientModels, Shelf
from flames_cli.core.federated.swarm_blend import SwarmBlend
from flames_cli.core.federated.topology import Topology
from flames_cli.core.federated.update_norms import FEWEST, NO_LIMIT, NormLimit, known_moves


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """Settings of a round that come from the run, not from the algorithm."""

    limit: NormLimit = NO_LIMIT
    """Largest distance that a client may move from its model."""
    noise: NoiseKey | None = None
    """Key of the noise that an algorithm with privacy adds to models."""
    shelf: Shelf = IN_MEMORY
    """Place of the reports and models of single clients."""
    topology: Topology | None = None
    """Connections of a swarm's peers; None: a server blends all reports."""
    aged: Aged | None = None
    """Reports of an asynchronous federation; None: rounds are in step."""


PLAIN = RoundSettings()

BLEND_STATE = "blend"
"""Kind of the server's state that a plug-in's blend stores for the next round."""


def apply_round(
    state: State,
    reports: Iterable[Report],
    algorithm: Algorithm,
    entries: Entries | None = None,
    n_clients: Mapping[str, int] | None = None,
    settings: RoundSettings = PLAIN,
) -> RoundResult:
    """Return the state after one round: check every report on arrival, then blend and step each model group.

    A rejected report does not stop the round. A group without a good report has an unchanged model and an
    unchanged optimiser state. A mean needs memory for one or two running sums for each group. FLAMES stores
    its reports, which become the personalised models, and so do robust means. With a limit, a group also
    stores its reports while fewer than two other clients have an earlier report to compare with. The order of
    arrival does not matter beyond rounding, and `state` is not changed.

    Args:
        state: state after the previous round.
        reports: reports of this round; they are read one at a time.
        algorithm: rule that makes models from reports.
        entries: roles of the model's entries; None: as `Entries.of` returns them.
        n_clients: number of clients in each group, including those that do not report (SCAFFOLD needs it);
            None: only those that report.
        settings: limit, noise and storage of the run.

    Raises:
        ValueError: a group has more reports than `n_clients` has clients (SCAFFOLD).
    """
    round_ = OpenRound(state, algorithm, entries, settings)
    for report in reports:
        round_.take(report)
        del report  # frees the memory while the next report is awaited
    return round_.close(n_clients)


class OpenRound:
    """A round whose reports arrive one by one: each is accepted into its model group, waits, or is rejected.

    `apply_round` explains the arguments.
    """

    def __init__(
        self,
        state: State,
        algorithm: Algorithm,
        entries: Entries | None = None,
        settings: RoundSettings = PLAIN,
    ) -> None:
        self._state = state
        self._algorithm = algorithm
        self._limit = settings.limit
        self._shelf = settings.shelf
        self._groups = {
            name: _ModelGroup(
                algorithm,
                start,
                entries or Entries.of(start),
                _make_blend(state, name, algorithm, entries or Entries.of(start), settings),
            )
            for name, start in state.server.items()
        }
        self._starts = settings.aged.starts if settings.aged else {}
        self._repeats = settings.aged is not None
        self._waiting: list[_Waiting] = []
        self._candidates: dict[str, Candidates] = {}
        self._preferences: dict[str, Preference] = {}
        self._styles: dict[str, Weights] = {}
        self._accepted: dict[str, LastReport] = {}
        self._rejected: dict[str, str] = {}

    def take(self, report: Report) -> None:
        """Accept `report`, reject it, or let it wait until there are other reports to compare with."""
        client, name = report.client, self._algorithm.model_group_of(report.client, report.modality)
        if reason := self.fault(report):
            self._rejected[client] = reason
            return
        moved = self._limit.measure(report, self._start_of(report, name), self._groups[name].entries)
        known = known_moves(self._state.clients, client)
        compared = self._limit.is_set and self._algorithm.clients_share_models
        if compared and sum(last.group == name for last in known.values()) < FEWEST:
            self._waiting.append(_Waiting(report, moved, self._shelf))
        else:
            self._judge(report, name, moved, known)

    def fault(self, report: Report) -> str | None:
        """Return why `report` cannot be used, whatever the others report; None if it can."""
        group = self._algorithm.model_group_of(report.client, report.modality)
        waiting = {one.rest.client for one in self._waiting}
        if not self._repeats and (report.client in self._accepted or report.client in waiting):
            return "it reported twice in one round"
        if group not in self._groups:
            return f"there is no model for '{group}', expected one of {sorted(self._groups)}"
        offered = self._algorithm.clients_choose and self._candidates_of(group).offers(report.client)
        if reason := presence_reason(report.choice, offered):
            return reason
        return self._groups[group].rejection_reason(report)

    def _start_of(self, report: Report, group: str) -> Weights:
        """Return the model from which the client started: the one that was sent, or its choice."""
        if load := self._starts.get(report.client):
            return load()
        offer = self._candidates_of(group).offer(report.client) if report.choice else None
        if offer is None or report.choice is None:
            return self._state.model_for(report.client, group)
        return offer.candidate(report.choice.pick)

    def _candidates_of(self, group: str) -> Candidates:
        if group not in self._candidates:
            self._candidates[group] = self._state.candidates(group)
        return self._candidates[group]

    def _judge(self, report: Report, name: str, moved: Moved, others: Mapping[str, LastReport]) -> None:
        """Accept `report`, unless it moved too far compared with the reports of `others`."""
        group = [last.moved for last in others.values() if last.group == name]
        elsewhere = [last.moved for last in others.values() if last.group != name]
        if reason := self._limit.rejection_reason(report, moved, group, elsewhere):
            self._rejected[report.client] = reason
            return
        # A private run stores nothing of a single client: its distance would be in the checkpoint.
        stored = Moved() if self._algorithm.privacy else moved
        self._accepted[report.client] = LastReport(group=name, round=self._number_of(report), moved=stored)
        self._groups[name].add(report)
        if self._algorithm.clients_choose:
            before = self._state.preferences.get(report.client)
            self._preferences[report.client] = update(before, report.n_examples, report.choice)
        if report.style is not None and self._groups[name].lends_style:
            self._styles[report.client] = report.style

    def close(self, n_clients: Mapping[str, int] | None = None) -> RoundResult:
        """Blend every group that has reports, and return the outcome of the round; arguments and errors as
        `apply_round`."""
        self._judge_waiting()
        self._reject_small_groups()
        return self._result(n_clients)

    def _judge_waiting(self) -> None:
        """Compare each waiting report with the newest report of every other client."""
        newest = {**self._state.clients, **self._accepted}
        for waiting in self._waiting:
            report = waiting.rest
            name = self._algorithm.model_group_of(report.client, report.modality)
            newest[report.client] = LastReport(name, self._number_of(report), waiting.moved)
        while self._waiting:
            waiting = self._waiting.pop(0)
            client = waiting.rest.client
            self._judge(waiting.report(), newest[client].group, waiting.moved, known_moves(newest, client))

    def _number_of(self, report: Report) -> int:
        """Return the round of a report: in an asynchronous federation the number of the client's training."""
        return report.round if self._repeats else self._state.round + 1

    def _reject_small_groups(self) -> None:
        """Reject the reports of groups that have too few reports to blend."""
        for name, group in self._groups.items():
            if group.n_reports and (reason := group.shortage()):
                clients = [client for client, last in self._accepted.items() if last.group == name]
                for client in clients:
                    self._rejected[client] = reason
                    self._accepted.pop(client)
                    self._styles.pop(client, None)
                group.n_reports = 0

    def _result(self, n_clients: Mapping[str, int] | None) -> RoundResult:
        """Blend every group that has reports, and return the outcome of the round."""
        state, round_ = self._state, self._state.round + 1
        server, personal = dict(state.server), ClientModels.of(state.personal)
        optimiser_state = dict(state.optimiser_state)
        for name, group in self._groups.items():
            if group.n_reports:
                n = group.n_reports if n_clients is None else n_clients.get(name, 0)
                server[name], optimiser_state[name] = group.finish(optimiser_state.get(name, {}), round_, n)
                personal = personal.replaced_by(group.personal())
                optimiser_state[name] |= group.state()
        after = State(
            round=round_,
            server=server,
            personal=personal,
            optimiser_state={name: kinds for name, kinds in optimiser_state.items() if kinds},
            styles={**state.styles, **self._styles},
            clients={**state.clients, **self._accepted},
            releases=state.releases + (self._algorithm.privacy is not None),
            preferences={**state.preferences, **self._preferences},
        )
        return RoundResult(
            state=after,
            accepted=tuple(self._accepted),
            rejected=self._rejected,
            unchanged_groups=tuple(name for name, group in self._groups.items() if not group.n_reports),
        )


class _Waiting:
    """A report that waits until there are others to compare with; `rest` is the report without its arrays."""

    def __init__(self, report: Report, moved: Moved, shelf: Shelf) -> None:
        self.moved = moved
        self.rest = replace(report, weights={}, control=None)
        self._weights = shelf.keep_report(report.weights)
        self._control = None if report.control is None else shelf.keep_report(report.control)

    def report(self) -> Report:
        """Return the report."""
        control = None if self._control is None else self._control()
        return replace(self.rest, weights=self._weights(), control=control)


def _make_blend(
    state: State, group: str, algorithm: Algorithm, entries: Entries, settings: RoundSettings
) -> Blend:
    """Return the blend of a model group in the round after `state`."""
    if settings.topology:
        peers = [client for client, last in state.clients.items() if last.group == group]
        return SwarmBlend(algorithm, settings.topology.graph(group, peers), settings.shelf)
    round_, noise = state.round + 1, settings.noise
    release = Release(key=noise, round=round_, group=group) if noise else None
    place = Place(group, round_, state.optimiser_state.get(group, {}).get(BLEND_STATE, {}))
    return make_blend(algorithm, state.server[group], entries, release, settings.shelf, place, settings.aged)


class _ModelGroup:
    """The clients of one model in one round: checks and collects their reports, and makes the new model."""

    def __init__(
        self,
        algorithm: Algorithm,
        start: Weights,
        entries: Entries,
        blend: Blend,
    ) -> None:
        self._algorithm = algorithm
        self._start = start
        self.entries = entries
        self._shared = entries.shared_of(start)
        self._parameters = entries.parameters_of(start)
        self._style = select(start, entries.style)
        self._blend = blend
        self._control = RunningSum()
        self.n_reports = 0

    @property
    def lends_style(self) -> bool:
        """True if this group's models have an image decoder that clients lend each other."""
        return bool(self._style)

    def rejection_reason(self, report: Report) -> str | None:
        """Return why `report` cannot be used; None if it can."""
        if reason := rejection_reason(report, self._shared, self.entries.variances):
            return reason
        if changed := self._find_unfrozen(report):
            return f"it changed '{changed}', which is frozen; install the same version everywhere"
        if reason := self._blend.rejection_reason(report):
            return reason
        if self._algorithm.needs_steps and report.n_steps <= 0:
            return f"it reports {report.n_steps} steps, expected more than 0"
        if self._algorithm.clients_correct_gradients:
            if report.control is None:
                return (
                    "it reports no control variate, which SCAFFOLD needs; install the same version everywhere"
                )
            if fault := find_fault(report.control, self._parameters):
                return f"its control variate: {fault}"
        if report.style is not None and self.lends_style and (fault := find_fault(report.style, self._style)):
            return f"its image decoder: {fault}"
        return None

    def _find_unfrozen(self, report: Report) -> str:
        """Return the first frozen entry that `report` changed; "" if there is none."""
        names = (name for name in report.weights if name in self.entries.frozen)
        changed = (name for name in names if not np.array_equal(report.weights[name], self._start[name]))
        return next(changed, "")

    def add(self, report: Report) -> None:
        """Add a good report."""
        self.n_reports += 1
        self._blend.add(report)
        if self._algorithm.clients_correct_gradients and report.control is not None:
            self._control.add(report.control, 1.0)

    def shortage(self) -> str | None:
        """Return why there are too few reports to blend; None if there are enough."""
        return self._blend.shortage()

    def finish(self, old: OptimiserState, round_: int, n_clients: int) -> tuple[Weights, dict[str, Weights]]:
        """Return the group's new model and optimiser state; entries that are not shared are unchanged."""
        self._blend.n_clients = n_clients
        blended, control = self._blend.server(), {}
        if self._algorithm.clients_correct_gradients:
            if n_clients < self.n_reports:
                raise ValueError(f"got {self.n_reports} reports of a group of {n_clients} clients")
            control = control_step(self._parameters, self._control, old, n_clients)
        model, stored = make_new_model(
            self._algorithm, self.entries, self._start, blended, old, round_, control
        )
        return model, {kind: one for kind, one in stored.items() if kind != BLEND_STATE}

    def personal(self) -> Mapping[str, Weights]:
        """Return the entries that differ from client to client, by client."""
        return self._blend.personal()

    def state(self) -> dict[str, Weights]:
        """Return what the blend stores for the next round, by kind; call it last."""
        found = self._blend.state()
        return {BLEND_STATE: found} if found else {}
