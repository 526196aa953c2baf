"""New model of a group from the blend of its clients: frozen entries, the server's step and its average."""

from collections.abc import Mapping

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import Entries, select
from flames_cli.core.federated.server_steps import OptimiserState, adam_step, average_step, momentum_step


def make_new_model(
    algorithm: Algorithm,
    entries: Entries,
    start: Weights,
    blended: Weights,
    old: OptimiserState,
    round_: int,
    control: Mapping[str, Weights] = {},
) -> tuple[Weights, dict[str, Weights]]:
    """Return a group's new model and optimiser state; entries that are not shared are unchanged.

    Args:
        algorithm: options of the server.
        entries: roles of the model's entries.
        start: the group's model before the round.
        blended: blend of the clients' shared entries.
        old: optimiser state after the previous round.
        round_: number of this round.
        control: the new control variate by its kind (SCAFFOLD).
    """
    # A mean of equal numbers may differ in its last bit.
    blend = {**start, **blended, **select(start, entries.frozen)}
    stepped, changed = _step(algorithm, entries.parameters_of(start), blend, old, round_)
    changed |= control
    model = {**blend, **stepped}
    if algorithm.ema:
        changed |= average_step(entries.shared_of(model), old, algorithm.ema)
    return model, {**old, **changed}


def _step(
    algorithm: Algorithm, parameters: Weights, blend: Weights, old: OptimiserState, round_: int
) -> tuple[Weights, dict[str, Weights]]:
    if algorithm.server_steps_by_adam:
        return adam_step(parameters, blend, old, algorithm.server_lr, round_)
    if algorithm.server_momentum:
        return momentum_step(parameters, blend, old, algorithm.server_momentum)
    return {}, {}
