"""Optimisers by name, and FedGS' cumulative update kept beside any of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 0.0}
"""Weight decay of each optimiser where the user gives none: torch's own default."""


def make_optimiser(
    name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float | None
) -> torch.optim.Optimizer:
    """Make a fresh optimiser `name` of OPTIMISERS, with its own weight decay where that is None.

    Raises:
        KeyError: there is no such optimiser.
    """
    decay = WEIGHT_DECAY[name] if weight_decay is None else weight_decay
    return OPTIMISERS[name](parameters, lr=lr, weight_decay=decay)


class ScaledOptimiser:
    """Any torch optimiser, and beside its steps the update that FedGS reports.

    FedGS wants G = Σ p_t·u_t, u_t being what step t takes from the weights apart from decoupled weight decay
    (AdamW's; an L2 penalty, as Adam's and SGD's, is a part of the gradient), and reports w0 − G. Kept here is
    only what sets this apart from the weights as trained, E = Σ ((p_t − 1)·u_t − decay_t): w0 − G = w − E. So
    steps that count once cost nothing, and a client without small lesions (and decay) reports its weights to
    the last bit.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._excess: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """One step of the optimiser, which counts `scale` times in what is reported."""
        before = [
            (parameter, decay, parameter.detach().clone())
            for parameter, decay in self._parameters()
            if scale != 1.0 or decay
        ]
        self._optimiser.step()
        for parameter, decay, start in before:
            decayed = start * (1.0 - decay)
            excess = (decayed - parameter).mul_(scale - 1.0).sub_(start - decayed)
            if parameter in self._excess:
                self._excess[parameter] += excess
            else:
                self._excess[parameter] = excess

    def _parameters(self) -> Iterable[tuple[Tensor, float]]:
        """Every parameter that the next step moves, and the share of it that decoupled weight decay takes."""
        for group in self._optimiser.param_groups:
            decay = float(group["lr"]) * group["weight_decay"] if self._decoupled(group) else 0.0
            yield from ((parameter, decay) for parameter in group["params"] if parameter.grad is not None)

    def _decoupled(self, group: Mapping[str, Any]) -> bool:
        return isinstance(self._optimiser, torch.optim.AdamW) or group.get("decoupled_weight_decay", False)

    @property
    def changes_report(self) -> bool:
        """Whether what is reported is anything but the weights."""
        return bool(self._excess)

    def reported(self, parameter: Tensor) -> Tensor:
        """w0 − G of a parameter, as it now stands, in memory of its own."""
        excess = self._excess.get(parameter)
        value = parameter.detach()
        return value.clone() if excess is None else value - excess
