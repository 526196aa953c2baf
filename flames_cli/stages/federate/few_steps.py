"""Warning about a federation whose models are trained with few steps."""

from collections import Counter

from flames_cli.fed.events import Event, FederationStarted, Noted, OnEvent
from flames_cli.fed.plan import Plan

FEW_STEPS = 200
"""Steps of all clients of a model in all rounds, below which its training is hardly more than a start.

Measured with a U-Net of 8 channels at 64 pixels on real images (docs/decisions.md): after 24 steps a model
finds hardly anything, and from 72 to 96 steps its Dice still rises.
"""


def warn_on_few_steps(plan: Plan, on_event: OnEvent) -> OnEvent:
    """Return a listener that passes events on, and adds a note to the start if the plan has few steps."""

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, FederationStarted) and (note := few_steps(plan, event.clients)):
            on_event(Noted(note))

    return listen


def few_steps(plan: Plan, clients: tuple[tuple[str, str, int], ...]) -> str:
    """Return which models are trained with few steps; "" if there is none.

    The steps of a model are those of all clients of its group in all rounds together, since each of them
    moves it; with `fraction`, those of the clients that are drawn.

    Args:
        plan: plan of the federation.
        clients: name, modality and number of training images of each client.
    """
    steps: Counter[str] = Counter()
    for client, modality, n_train in clients:
        group = plan.algorithm.model_group_of(client, modality)
        steps[group] += plan.rounds * plan.steps_a_round(client, modality, n_train)
    drawn = {group: round(plan.fraction * n) for group, n in steps.items()}
    few = {group: n for group, n in drawn.items() if n < FEW_STEPS}
    if not few:
        return ""
    listed = ", ".join(f"model {group}: {n}" for group, n in few.items())
    return (
        f"few training steps in all {plan.rounds} rounds together ({listed}), expected at least {FEW_STEPS} "
        f"for each model; pass more --rounds (now {plan.rounds}), more --local-epochs (now "
        f"{plan.training.local_epochs}), or a smaller --batch-size (now {plan.training.batch_size})"
    )
