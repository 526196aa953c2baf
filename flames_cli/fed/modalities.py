"""Rounds by modality: each modality does its own rounds over the same nodes, and none waits for another one.

All modalities share one thread: while one of them waits for its nodes, the others go on.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flwr.serverapp import Grid

from flames_cli.core.federated.modalities import merge_states
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.asynchronous.versions import Versions
from flames_cli.fed.events import Event, FederationStarted, ModalityDone, RoundDone
from flames_cli.fed.federation import Federation
from flames_cli.fed.joined import JoinedClients
from flames_cli.fed.messages import Profile
from flames_cli.fed.modality_run import ModalityRun
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.participation import draw_clients
from flames_cli.fed.plan import Plan, with_model_groups
from flames_cli.fed.roster import Roster
from flames_cli.fed.rounds import run_round
from flames_cli.fed.waiting import GO_ON, Work, together


def run_by_modality(
    grid: Grid, federation: Federation, states: ModalityStates, roster: Roster, joined: JoinedClients
) -> Work[State]:
    """Do all remaining rounds of all modalities, and return the state of all of them after the last round.

    Raises:
        FlamesError: no client was present in time; or the rounds of a modality ended with an error, after
            the other modalities have done all their rounds.
    """
    run = _Run(grid, federation, states, roster, joined)
    return (yield from run.finish())


class _Run:
    """A run by modality: its modalities, and what is done after each of their rounds."""

    def __init__(
        self,
        grid: Grid,
        federation: Federation,
        states: ModalityStates,
        roster: Roster,
        joined: JoinedClients,
    ) -> None:
        self._grid = grid
        self._federation = federation
        self._states = states
        self._roster = roster
        self._joined = joined
        self._works: dict[str, Work[State]] = {}
        self._combined_at = time.monotonic()

    def finish(self) -> Work[State]:
        """Do all remaining rounds of all modalities."""
        plan, on_event = self._federation.plan, self._federation.on_event
        rounds = {modality: state.round for modality, state in self._states.newest.items()}
        for modality in rounds:
            self._add(modality)
        for record in self._states.combine_done():
            on_event(RoundDone(record))
        first = self._states.combined + 1
        if not rounds or min(rounds.values()) < plan.rounds:
            clients = yield from self._roster.wait_for_nodes(first)
            self._note_joined()
            present = tuple((one.client, one.modality, one.n_train) for _, one in clients)
            on_event(FederationStarted(present, first, plan.rounds, by_modality=True))
            for modality in self._federation.participation.min_clients_by_modality:
                if self._federation.participation.need_of(modality):
                    self._add(modality)
        self._combined_at = time.monotonic()
        return _join((yield from together(self._works)))

    def _note_joined(self) -> None:
        """Note the clients that have joined; those of a new modality begin their rounds."""
        known = self._roster.known
        require_separate(self._federation.plan, known)
        self._joined.note(known)
        for profile in known:
            self._add(profile.modality)

    def _add(self, modality: str) -> None:
        if modality not in self._works:
            state = self._states.take_part(modality)
            run = ModalityRun(modality, self._grid, self._federation_of(modality), self._roster)
            self._works[modality] = self._do_rounds(run, state)

    def _do_rounds(self, run: ModalityRun, state: State) -> Work[State]:
        """Do the rounds of a modality after `state`, and return its last state."""
        plan, participation = run.federation.plan, run.federation.participation
        if plan.algorithm.buffering:
            return (yield from Versions(run, state, self._note_joined).make_all())
        for round_ in range(state.round + 1, plan.rounds + 1):
            clients = yield from run.roster.wait_for_clients(round_, run.modality)
            self._note_joined()
            drawn = draw_clients(clients, participation, plan.fraction, plan.seed, round_)
            state = yield from run_round(
                run.grid, run.federation, with_model_groups(state, plan, run.known()), drawn, run.roster
            )
            yield GO_ON
        return state

    def _federation_of(self, modality: str) -> Federation:
        """Return the federation with the results of `modality` in place of those of all."""
        combined: list[dict[str, Any]] = []

        def save(state: State, record: dict[str, Any]) -> None:
            now = time.monotonic()
            if done := self._states.save(modality, state, record, now - self._combined_at):
                combined.append(done)
                self._combined_at = now

        def listen(event: Event) -> None:
            if not isinstance(event, RoundDone):
                self._federation.on_event(event)
                return
            self._federation.on_event(ModalityDone(modality, event.record))
            while combined:
                self._federation.on_event(RoundDone(combined.pop(0)))

        return replace(self._federation, save=save, on_event=listen)


def require_separate(plan: Plan, profiles: Iterable[Profile]) -> None:
    """Check that no model group has clients of several modalities.

    Raises:
        FlamesError: one has.
    """
    modality_of: dict[str, str] = {}
    for profile in profiles:
        group = plan.model_group_of(profile)
        if modality_of.setdefault(group, profile.modality) != profile.modality:
            raise FlamesError(
                f"strategy {plan.strategy} has one model '{group}' for {modality_of[group]} and "
                f"{profile.modality}, so they cannot do their own rounds; leave --rounds-by modality out"
            )


def _join(results: dict[str, State | FlamesError]) -> State:
    """Return the state of all modalities.

    Raises:
        FlamesError: a modality ended with an error.
    """
    errors = {name: one for name, one in results.items() if isinstance(one, FlamesError)}
    if errors:
        raise FlamesError("; ".join(f"{name} has stopped: {error}" for name, error in errors.items()))
    return merge_states([one for one in results.values() if isinstance(one, State)])
