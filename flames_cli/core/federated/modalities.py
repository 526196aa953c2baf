"""States of single modalities, which share nothing, and the state of all of them together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flames_cli.core.federated.reports import State
from flames_cli.core.federated.shelf import ClientModels

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """Order of clients and groups in a state of several modalities, as rounds in step give it."""

    clients: list[str]
    """All clients, sorted by name."""
    groups: list[str]
    """Model groups, in the order of their first clients."""
    by_group: list[str]
    """All clients, sorted by group and then by name."""

    @classmethod
    def of(cls, group_of: Mapping[str, str]) -> "Order":
        """Return the order of these clients, of which `group_of` has the model group."""
        clients = sorted(group_of)
        groups = list(dict.fromkeys(group_of[client] for client in clients))
        return cls(clients, groups, sorted(clients, key=lambda client: groups.index(group_of[client])))

    def of_sum(self, round_: int, group: str) -> tuple[int, int]:
        """Return the place of a sum of secure aggregation: by round, then by group."""
        return round_, self.groups.index(group)


def merge(parts: Iterable[Mapping[str, T]], order: Sequence[str]) -> dict[str, T]:
    """Return the entries of all `parts`, in the given order; entries that it does not name come last."""
    found = {name: one for part in parts for name, one in part.items()}
    return {**{name: found[name] for name in order if name in found}, **found}


def part_of(state: State, clients: Collection[str]) -> State:
    """Return the part of a state of all modalities that belongs to the modality of these clients."""
    groups = {state.clients[client].group for client in clients}
    personal = ClientModels.of(state.personal)
    return State(
        round=state.round,
        server=_only(state.server, groups),
        personal=ClientModels({name: personal.load_of(name) for name in personal if name in clients}),
        optimiser_state=_only(state.optimiser_state, groups),
        styles=_only(state.styles, clients),
        clients=_only(state.clients, clients),
        releases=state.releases,
        preferences=_only(state.preferences, clients),
        sums=tuple(one for one in state.sums if one.group in groups),
    )


def _only(entries: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: one for name, one in entries.items() if name in names}


def merge_states(states: Sequence[State]) -> State:
    """Return the state of all modalities together, made of the states of each after the same round.

    It is equal to the state that rounds in step give. An asynchronous federation's progress is not part of
    it: each modality continues from its own state.

    Raises:
        ValueError: there is no state, or the rounds differ.
    """
    if len({state.round for state in states}) != 1:
        raise ValueError(
            f"got states after the rounds {[state.round for state in states]}, expected one round"
        )
    order = Order.of({name: last.group for state in states for name, last in state.clients.items()})
    sums = [one for state in states for one in state.sums]
    personal = ClientModels()
    for state in sorted(states, key=lambda one: min(one.clients, default="")):
        personal = personal.replaced_by(state.personal)
    return State(
        round=states[0].round,
        server=merge((state.server for state in states), order.groups),
        personal=personal,
        optimiser_state=merge((state.optimiser_state for state in states), order.groups),
        styles=merge((state.styles for state in states), order.clients),
        clients=merge((state.clients for state in states), order.clients),
        releases=max(state.releases for state in states),
        preferences=merge((state.preferences for state in states), order.clients),
        sums=tuple(sorted(sums, key=lambda one: order.of_sum(one.round, one.group))),
    )
