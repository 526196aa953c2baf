"""Server steps: from the blend of a round to the new model. They change parameters only, not buffers.

A step takes the parameters `start` of the old model, the parameters of the `blend`, and the server's
optimiser state after the previous round ({} at first). It returns the new parameters and the new optimiser
state. It computes in float64 and stores the state in the parameters' own dtype, so that a run resumed from a
checkpoint gives exactly the same results. `average_step` changes no model: it averages those of all rounds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.reports import floats_of
from flames_cli.core.federated.running_sum import RunningSum, cast

BETA_1, BETA_2, TAU = 0.9, 0.99, 1e-3
"""Constants β₁, β₂ and τ of the server's Adam: defaults of Flower's FedAdam (Reddi et al. 2021 tune τ)."""

OptimiserState = Mapping[str, Weights]
"""Optimiser state of one model group by kind (momentum, adam_m, adam_v, control, ema), each by entry."""


def momentum_step(
    start: Weights, blend: Weights, old: OptimiserState, momentum: float
) -> tuple[Weights, dict[str, Weights]]:
    """Make a step with momentum: v ← momentum·v + (w − blend), w ← w − v.

    Source: Hsu et al. 2019, FedAvgM, with a server learning rate of 1; the same as `gmf` in FedGS.
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
    """Make a step of Adam with Δ = blend − w.

    m ← β₁m + (1−β₁)Δ, v ← β₂v + (1−β₂)Δ², w ← w + η·m / (√v + τ).

    Source: Reddi et al. 2021, FedAdam. The paper has no bias correction. This function uses the one of
    Flower's FedAdam: η = lr·√(1−β₂^(round+1)) / (1−β₁^(round+1)) (in Kingma & Ba 2015 the exponent is
    `round`).

    Args:
        start: parameters w.
        blend: parameters of the clients' blend.
        old: optimiser state with adam_m and adam_v of the previous round.
        lr: learning rate, above 0.
        round_: number of this round, from 1.
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


def average_step(model: Weights, old: OptimiserState, decay: float) -> dict[str, Weights]:
    """Return the moving average of a group's models, with the newest `model`, and its number of models.

    e ← e + a·(w − e) with a = (1 − D) / (1 − Dᵗ) for the t-th model: the exponential moving average
    e ← D·e + (1 − D)·w with the bias correction of Kingma & Ba 2015, in one formula. The weights of all
    models have the sum 1 from the first model on, so that the average needs no initial value; it can be used
    after any round. Source of averaged iterates: Polyak & Juditsky 1992.

    Args:
        model: entries of the new model; those that are not floats (counters) have no average.
        old: optimiser state with ema and ema_rounds of the previous round.
        decay: decay D, in [0, 1).
    """
    before = old.get("ema", {})
    number = int(old["ema_rounds"]["rounds"]) + 1 if before else 1
    share = (1 - decay) / (1 - decay**number)
    average = {}
    for name, array in floats_of(model).items():
        past = _entry(before, name)
        average[name] = cast(past + share * (array - past), array.dtype)
    return {"ema": average, "ema_rounds": {"rounds": np.array(number, np.int64)}}


def control_step(
    start: Weights, changes: RunningSum, old: OptimiserState, n_clients: int
) -> dict[str, Weights]:
    """Return the new control variate c ← c + (1/N)·Σ Δcᵢ, summed over the clients that reported.

    Source: Karimireddy et al. 2020, SCAFFOLD, algorithm 1, line 17.

    Args:
        start: parameters; only their names and dtypes are used.
        changes: Σ Δcᵢ, the sum of the changes of the clients' control variates.
        old: optimiser state with the server's old control variate.
        n_clients: N, the number of all clients of the group, including those that did not report.
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
