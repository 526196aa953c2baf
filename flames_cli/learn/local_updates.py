"""Local update rules: how a client uses its gradients, and which weights it reports.

Each rule has the model and its optimiser, makes the steps, and returns the weights to report.
`make_local_update` creates a rule by its name in `Algorithm.local_update`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import scaling_factor
from flames_cli.learn.batches import is_async
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.device_shard import to_device
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.optimisers import ScaledOptimiser


class LocalUpdate:
    """The plain rule: the optimiser's own step; trained weights are reported. Base class of the others."""

    uses_scale = False
    """True if the rule scales steps in its report; the caller then sets `scale` before each step."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimiser = optimiser
        self.scale: float | Tensor = 1.0
        """Factor by which the next step counts in the report."""

    def step(self) -> None:
        """Make one step with the current gradients."""
        self.optimiser.step()

    @property
    def changes_report(self) -> bool:
        """True if the report differs from the trained weights."""
        return False

    def weights(self) -> Weights:
        """Return the weights that the client would report now."""
        return to_weights(self.model)


class FedGS(LocalUpdate):
    """FedGS: steps on small lesions count more in the report; training is plain (Schutte et al. 2024)."""

    uses_scale = True

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        super().__init__(model, optimiser)
        self._scaled = ScaledOptimiser(optimiser)

    def step(self) -> None:
        """Make one step that counts `scale` times in the report."""
        self._scaled.step(self.scale)

    @property
    def changes_report(self) -> bool:
        """True if any step had a scale other than 1, or weights decayed."""
        return self._scaled.changes_report

    def weights(self) -> Weights:
        """Return the received weights minus the scaled updates; buffers are those of the trained model."""
        scaled = {
            name: self._scaled.reported(parameter).cpu().numpy()
            for name, parameter in self.model.named_parameters()
        }
        return {name: scaled.get(name, array) for name, array in to_weights(self.model).items()}


class UnscaledFedGS(FedGS):
    """FedGS with p = 1 for every step, as in the authors' own baseline: a comparison shows the factor alone.

    The report is the trained weights without the decoupled weight decay of this round.
    """

    uses_scale = False


class FedProx(LocalUpdate):
    """FedProx: a gradient of μ·(w − w0) pulls towards the received weights w0 (Li et al. 2020)."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, mu: float) -> None:
        super().__init__(model, optimiser)
        self._mu = mu
        self._start = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def step(self) -> None:
        """Make one step on the loss plus μ/2·‖w − w0‖²."""
        for parameter, start in zip(self.model.parameters(), self._start, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._mu)
        self.optimiser.step()


class Scaffold(LocalUpdate):
    """SCAFFOLD: gradients corrected by control variates, g − cᵢ + c (Karimireddy et al. 2020)."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, correction: Weights) -> None:
        super().__init__(model, optimiser)
        self._corrections = {
            parameter: torch.from_numpy(correction[name].copy()).to(parameter)
            for name, parameter in model.named_parameters()
            if name in correction  # entries that stay at the client have no control variate
        }

    @torch.no_grad()
    def step(self) -> None:
        """Make one step with the corrected gradient."""
        for parameter, correction in self._corrections.items():
            if parameter.grad is not None:
                parameter.grad.add_(correction)
        self.optimiser.step()


def batch_scale(masks: Tensor, cases: Sequence[int], data: ShardDataset) -> float | Tensor:
    """Return FedGS' scaling factor of a batch: augmented masks B×1×H×W of these `cases` of `data`.

    For masks on a GPU it is a tensor there, of no dimensions, since reading it would wait for the step; the
    formula is that of `scaling_factor`.
    """
    small = [data.lesion(case) == "small" for case in cases]
    bases = [data.small_rule(case).log_base for case in cases]
    if not is_async(masks.device):
        areas = masks.flatten(1).sum(1).cpu().numpy()
        return scaling_factor(areas, small, masks[0].numel(), bases)
    if not any(small):
        return 1.0
    logs_and_small = np.array([[math.log(base), one] for base, one in zip(bases, small, strict=True)])
    factors = to_device(torch.from_numpy(logs_and_small), masks.device)
    logs = (masks[0].numel() / masks.flatten(1).sum(1).double()).log() / factors[:, 0]
    found: Tensor = 1.0 + 2.0 / len(cases) * ((logs**2).tanh() * factors[:, 1]).sum()
    return found


def make_local_update(
    name: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    mu: float = 0.0,
    correction: Weights | None = None,
) -> LocalUpdate:
    """Create the local update rule `name` at the start of a round.

    Args:
        name: "plain", "fedgs", "fedgs-unscaled", "fedprox" or "scaffold".
        model: the model with the received weights, on its device.
        optimiser: the optimiser of the model's parameters.
        mu: proximal coefficient μ of FedProx.
        correction: c − cᵢ of SCAFFOLD, by parameter name.

    Raises:
        ValueError: an unknown rule, or SCAFFOLD without a correction.
    """
    match name:
        case "plain":
            return LocalUpdate(model, optimiser)
        case "fedgs":
            return FedGS(model, optimiser)
        case "fedgs-unscaled":
            return UnscaledFedGS(model, optimiser)
        case "fedprox":
            return FedProx(model, optimiser, mu)
        case "scaffold" if correction is not None:
            return Scaffold(model, optimiser, correction)
    raise ValueError(
        f"got local update rule {name!r}, expected plain, fedgs, fedgs-unscaled, fedprox, or scaffold with a "
        "correction"
    )
