"""A federation as the ServerApp runs it: its plan, its start, and what is called with its results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flames_cli.core.federated.reports import State
from flames_cli.core.federated.shelf import IN_MEMORY, Shelf
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.events import OnEvent, ignore
from flames_cli.fed.joined import SaveClients, no_clients_to_save
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.pace import USUAL_PACE, Pace
from flames_cli.fed.participation import ALL_AT_ONCE, Participation
from flames_cli.fed.plan import Plan
from flames_cli.fed.server_delivery import Delivery
from flames_cli.fed.server_final_pass import FinalPass
from flames_cli.fed.virtual_clock import VirtualClock

Save = Callable[[State, dict[str, Any]], None]
"""save(state, record), called after every round."""

SaveFinal = Callable[[FinalPass, list[dict[str, Any]]], None]
"""save_final(result, earlier), called after the passes that follow the last round; `earlier` has the entries
of the best earlier rounds for final-models.json."""

SaveEvaluations = Callable[[int, list[EvaluationReport], dict[str, str]], None]
"""save_evaluations(round, reports, missing), called after the last round; `missing` has the reason of each
client without a report."""


NoteOpening = Callable[[int, Sequence[str]], int]
"""note_opening(round, groups), called before clients open private sums of these model groups; it returns how
often the sums of one of them have been opened, this time included."""


def no_opening_to_note(round_: int, groups: Sequence[str]) -> int:
    """Note nothing."""
    return 0


def nothing_to_save(state: State, record: dict[str, Any]) -> None:
    """Save nothing."""


@dataclass(frozen=True, slots=True)
class EarlierRounds:
    """Access to the stored rounds before the last one, of which one may have the best models."""

    find_best: Callable[[FinalPass, OnEvent], Iterable[State]]
    """find_best(result of the last round, on_event) gives the states of the best rounds before the last."""
    save: Callable[[State], None]
    """save(state) stores the state of an earlier round with the statistics of its models."""
    choose: Callable[[State], State]
    """choose(last state) gives the state whose models the clients evaluate."""


@dataclass(frozen=True, slots=True)
class Federation:
    """A federation as the ServerApp runs it: its plan, its start, and what is called with its results."""

    plan: Plan
    save: Save = nothing_to_save
    resumed: State | None = None
    """State to resume from; None: start with round 1."""
    on_event: OnEvent = ignore
    participation: Participation = ALL_AT_ONCE
    save_evaluations: SaveEvaluations | None = None
    """None: the clients do not evaluate the final models."""
    save_final: SaveFinal | None = None
    """None: there is no pass of the clients after the last round."""
    earlier: EarlierRounds | None = None
    """None: only the last round counts."""
    delivery: Delivery | None = None
    """None: the clients do not get their models, since all of them are on this machine."""
    noise_secret: bytes = field(default=b"", repr=False)
    """Secret from which noise is drawn; empty if the plan's algorithm has no privacy."""
    pace: Pace = USUAL_PACE
    save_clients: SaveClients = no_clients_to_save
    note_opening: NoteOpening = no_opening_to_note
    shelf: Shelf = IN_MEMORY
    """Place of the reports and models of single clients."""
    by_modality: ModalityStates | None = None
    """States of the modalities, each of which does its own rounds; None: all do their rounds together."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Packages whose plug-ins every node needs, name → version; empty if the nodes are in this process."""
    clock: VirtualClock | None = None
    """Clock of an asynchronous simulation; None: real nodes, or rounds in step."""
