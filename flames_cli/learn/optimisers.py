"""The registry of optimisers, and the cumulative update of FedGS for any of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
FUSED = ("cpu", "cuda")
"""Types of devices on which the fused kernels were tested; Apple's are newer and were not."""
WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 0.0}
"""Default weight decay of each optimiser, the same as torch's."""


def make_optimiser(
    name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float | None
) -> torch.optim.Optimizer:
    """Return a new optimiser `name` of OPTIMISERS; a weight decay of None is the optimiser's own.

    On the devices of FUSED it uses torch's fused kernels, which take one pass over the memory of all
    parameters; elsewhere torch chooses.

    Raises:
        KeyError: the name is unknown.
    """
    decay = WEIGHT_DECAY[name] if weight_decay is None else weight_decay
    given = list(parameters)
    fused = all(parameter.device.type in FUSED for parameter in given)
    return OPTIMISERS[name](given, lr=lr, weight_decay=decay, fused=fused or None)


class ScaledOptimiser:
    """A torch optimiser that also computes the scaled update which FedGS reports.

    FedGS reports w0 − G with G = Σ p_t·u_t (Schutte et al. 2024), where w0 are the weights received, p_t is
    the scaling factor of step t, and u_t is what step t subtracts from the weights without decoupled weight
    decay (AdamW's; an L2 penalty, as in Adam and SGD, is part of the gradient). This class stores only the
    difference from the trained weights w, E = Σ ((p_t − 1)·u_t − decay_t), so that w0 − G = w − E. Steps with
    p_t = 1 therefore cost nothing, and a client without small lesions and without weight decay reports its
    trained weights bit for bit.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._excess: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, scale: float | Tensor = 1.0) -> None:
        """Make one step of the optimiser that counts `scale` times in the report.

        A tensor of no dimensions on the parameters' device is not read, so that the step waits for nothing.
        """
        scaled = isinstance(scale, Tensor) or scale != 1.0
        before = [
            (parameter, decay, parameter.detach().clone())
            for parameter, decay in self._parameters()
            if scaled or decay
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
        """Yield every parameter that the next step changes, and its fraction that weight decay removes."""
        for group in self._optimiser.param_groups:
            decay = float(group["lr"]) * group["weight_decay"] if self._decoupled(group) else 0.0
            yield from ((parameter, decay) for parameter in group["params"] if parameter.grad is not None)

    def _decoupled(self, group: Mapping[str, Any]) -> bool:
        return isinstance(self._optimiser, torch.optim.AdamW) or group.get("decoupled_weight_decay", False)

    @property
    def changes_report(self) -> bool:
        """True if the report differs from the trained weights."""
        return bool(self._excess)

    def reported(self, parameter: Tensor) -> Tensor:
        """Return w0 − G of a parameter in its current state, as a copy."""
        excess = self._excess.get(parameter)
        value = parameter.detach()
        return value.clone() if excess is None else value - excess
