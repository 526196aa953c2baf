"""Warnings at the start of a federation: few training steps, options for a name that has not joined, and
those of the partition."""

from collections import Counter
from collections.abc import Sequence

from flames_cli.fed.events import Event, FederationStarted, Noted, OnEvent
from flames_cli.fed.plan import Plan, client_model

FEW_STEPS = 200
"""Steps of all clients of a model in all rounds, below which its training is hardly more than a start.

Measured with a U-Net of 8 channels at 64 pixels on real images (docs/decisions.md): after 24 steps a model
finds hardly anything, and from 72 to 96 steps its Dice still rises.
"""


Clients = tuple[tuple[str, str, int], ...]
"""Name, modality and number of training images of each client."""


def warn_at_start(plan: Plan, on_event: OnEvent, others: Sequence[str] = ()) -> OnEvent:
    """Return a listener that passes events on, and adds a note to the start for each warning.

    `others` are further warnings, which are known before the start.
    """

    checks = (few_steps, unknown_names, drawn_models, neighbours_see)

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, FederationStarted):
            found = (check(plan, event.clients) for check in checks)
            for note in (*others, *found):
                if note:
                    on_event(Noted(note))

    return listen


def unknown_names(plan: Plan, clients: Clients) -> str:
    """Return which options are for a name that no client or modality has; "" if there is none.

    With real nodes the server knows no names before the nodes join, and a client may join later.
    """
    known = dict.fromkeys(name for client, modality, _ in clients for name in (modality, client))
    found = [
        f"--{option.replace('_', '-')} {name}={value:g}"
        for option, values in plan.own_training.items()
        for name, value in values.items()
        if name not in known
    ]
    if not found:
        return ""
    return (
        f"{', '.join(found)} has no effect so far: no client or modality of that name has joined, only "
        f"{', '.join(known)}; correct the name, unless such a client joins later"
    )


def drawn_models(plan: Plan, clients: Clients) -> str:
    """Return which models are drawn by seed although others start from trained weights; "" if there is none.

    With real nodes the modalities are not known before the nodes join.
    """
    if not plan.draws_others:
        return ""
    missing = [
        f"{client} ({modality})"
        for client, modality, _ in clients
        if modality not in plan.starts and client_model(client) not in plan.starts
    ]
    if not missing:
        return ""
    return (
        f"--start-from has no model for {', '.join(missing)}, whose models start from weights that are drawn "
        "by seed; pass a run with a model of each modality, unless this is meant"
    )


def few_steps(plan: Plan, clients: Clients) -> str:
    """Return which models are trained with few steps; "" if there is none.

    The steps of a model are those of all clients of its group in all rounds together, since each of them
    moves it; with `fraction`, those of the clients that are drawn, and without rounds in step those of the
    reports in a buffer.
    """
    steps: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for client, modality, n_train in clients:
        group = plan.algorithm.model_group_of(client, modality)
        steps[group] += plan.rounds * plan.steps_a_round(client, modality, n_train)
        sizes[group] += 1
    buffering = plan.algorithm.buffering
    share = {
        group: min(1.0, buffering.size / n) if buffering else plan.fraction for group, n in sizes.items()
    }
    drawn = {group: round(share[group] * n) for group, n in steps.items()}
    few = {group: n for group, n in drawn.items() if n < FEW_STEPS}
    if not few:
        return ""
    listed = ", ".join(f"model {group}: {n}" for group, n in few.items())
    return (
        f"few training steps in all {plan.rounds} rounds together ({listed}), expected at least {FEW_STEPS} "
        f"for each model; pass more --rounds (now {plan.rounds}), more --local-epochs (now "
        f"{plan.training.local_epochs}), or a smaller --batch-size (now {plan.training.batch_size})"
    )


def neighbours_see(plan: Plan, clients: Clients) -> str:
    """Return who sees a peer's weights in a swarm; "" if there is a server."""
    if plan.topology is None:
        return ""
    groups: dict[str, list[str]] = {}
    for client, modality, _ in clients:
        groups.setdefault(plan.algorithm.model_group_of(client, modality), []).append(client)
    graphs = {group: plan.topology.graph(group, peers) for group, peers in groups.items()}
    counts = {group: max(map(len, graph.values())) for group, graph in graphs.items()}
    alone = [group for group, count in counts.items() if count == 0]
    listed = ", ".join(f"{count} of {group}" for group, count in counts.items() if count)
    parts = [
        f"a peer of this swarm sends its own weights to each of its neighbours (up to {listed}), which learn "
        "from them what a server of FLAMES would; neither secure aggregation nor noise hides them"
    ]
    if alone:
        parts.append(f"the only peer of {', '.join(alone)} has no neighbours, and trains alone")
    return "; ".join(parts if listed else parts[1:])
