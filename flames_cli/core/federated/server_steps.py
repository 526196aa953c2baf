"""What a server does between the blend of a round and its new model, over the parameters alone.

Every step takes the parameters `start` of the old model, those of the `blend`, and what it remembers of the
rounds before ({} at first); it gives the new parameters and the new state. It computes in float64 and
stores in the parameters' own dtype, so that a state read from a checkpoint goes on exactly.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.running_sum import RunningSum, cast

BETA_1, BETA_2, TAU = 0.9, 0.99, 1e-3
"""Of the server's Adam: the defaults of Flower's FedAdam (Reddi et al. 2021 tune τ)."""

OptimiserState = Mapping[str, Weights]
"""By kind: momentum, adam_m, adam_v, control."""


def momentum_step(
    start: Weights, blend: Weights, old: OptimiserState, momentum: float
) -> tuple[Weights, dict[str, Weights]]:
    """v ← momentum·v + (w − blend), w ← w − v.

    Source: Hsu et al. 2019, FedAvgM, with a server learning rate of 1; the `gmf` of FedGS.
    """
    stored = old.get("momentum", {})
    stepped, velocities = {}, {}
    for name, array in start.items():
        velocity = momentum * _entry(stored, name) + _wide(array) - blend[name]
        stepped[name] = cast(_wide(array) - velocity, array.dtype)
        velocities[name] = cast(velocity, array.dtype)
    return stepped, {"momentum": velocities}


def adam_step(
    start: Weights, blend: Weights, old: OptimiserState, lr: float, round_: int
) -> tuple[Weights, dict[str, Weights]]:
    """With Δ = blend − w: m ← β₁m + (1−β₁)Δ, v ← β₂v + (1−β₂)Δ², w ← w + η·m / (√v + τ).

    Source: Reddi et al. 2021, FedAdam. Their paper corrects no bias; as in Flower's FedAdam,
    η = lr·√(1−β₂^(round+1)) / (1−β₁^(round+1)) (Kingma & Ba 2015 have exponent `round`).

    Args:
        start: the parameters w.
        blend: those of the clients' blend.
        old: adam_m and adam_v of the rounds before.
        lr: above 0.
        round_: of this round, from 1.
    """
    rate = lr * np.sqrt(1 - BETA_2 ** (round_ + 1)) / (1 - BETA_1 ** (round_ + 1))
    old_m, old_v = old.get("adam_m", {}), old.get("adam_v", {})
    stepped, new_m, new_v = {}, {}, {}
    for name, array in start.items():
        delta = _wide(blend[name]) - array
        m = BETA_1 * _entry(old_m, name) + (1 - BETA_1) * delta
        v = BETA_2 * _entry(old_v, name) + (1 - BETA_2) * delta**2
        stepped[name] = cast(_wide(array) + rate * m / (np.sqrt(v) + TAU), array.dtype)
        new_m[name], new_v[name] = cast(m, array.dtype), cast(v, array.dtype)
    return stepped, {"adam_m": new_m, "adam_v": new_v}


def control_step(
    start: Weights, changes: RunningSum, old: OptimiserState, n_clients: int
) -> dict[str, Weights]:
    """c ← c + (1/N)·Σ Δcᵢ, the sum over those who reported: the new state.

    Source: Karimireddy et al. 2020, SCAFFOLD, algorithm 1, line 17.

    Args:
        start: the parameters, for their dtypes.
        changes: Σ Δcᵢ of the clients' control variates.
        old: the server's control variate so far.
        n_clients: N, all clients of the group, whether they reported or not.
    """
    stored = old.get("control", {})
    return {
        "control": {
            name: cast(_entry(stored, name) + changes[name] / n_clients, array.dtype)
            for name, array in start.items()
        }
    }


def _wide(array: NDArray[Any]) -> Floats:
    return np.asarray(array, np.float64)


def _entry(old: Weights, name: str) -> Floats:
    return _wide(old[name]) if name in old else np.zeros((), np.float64)
