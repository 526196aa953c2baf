"""Local rules: what a client does with its gradients, and what it reports.

Each holds the model that is trained and its optimiser, makes its steps, and says what is reported;
`make_local_update` knows them by the names of `Algorithm.local_update`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import scaling_factor
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.optimisers import ScaledOptimiser


class LocalUpdate:
    """The optimiser's own step; the weights are reported as they are."""

    uses_scale = False
    """Whether steps count otherwise in what is reported: then `scale` is set before each."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimiser = optimiser
        self.scale = 1.0
        """How often the next step counts in what is reported."""

    def step(self) -> None:
        """One step from the gradients as they stand."""
        self.optimiser.step()

    @property
    def changes_report(self) -> bool:
        """Whether what would be reported is anything but the weights that were trained."""
        return False

    def weights(self) -> Weights:
        """What the client would report now."""
        return to_weights(self.model)


class FedGS(LocalUpdate):
    """Steps on small lesions count more in what is reported; training is plain (Schutte et al. 2024)."""

    uses_scale = True

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        super().__init__(model, optimiser)
        self._scaled = ScaledOptimiser(optimiser)

    def step(self) -> None:
        """One step that counts `scale` times."""
        self._scaled.step(self.scale)

    @property
    def changes_report(self) -> bool:
        """Whether any step counted otherwise than once, or weights decayed."""
        return self._scaled.changes_report

    def weights(self) -> Weights:
        """The weights received less the scaled updates; buffers as they are."""
        scaled = {
            name: self._scaled.reported(parameter).cpu().numpy()
            for name, parameter in self.model.named_parameters()
        }
        return {name: scaled.get(name, array) for name, array in to_weights(self.model).items()}


class FedProx(LocalUpdate):
    """A pull of μ·(w − w0) towards the weights received (Li et al. 2020)."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, mu: float) -> None:
        super().__init__(model, optimiser)
        self._mu = mu
        self._start = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def step(self) -> None:
        """One step on the loss and μ/2·‖w − w0‖²."""
        for parameter, start in zip(self.model.parameters(), self._start, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._mu)
        self.optimiser.step()


class Scaffold(LocalUpdate):
    """Gradients corrected by control variates, g − cᵢ + c (Karimireddy et al. 2020)."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, correction: Weights) -> None:
        super().__init__(model, optimiser)
        self._corrections = {
            parameter: torch.from_numpy(correction[name].copy()).to(parameter)
            for name, parameter in model.named_parameters()
            if name in correction  # what stays at the client has none
        }

    @torch.no_grad()
    def step(self) -> None:
        """One step along the corrected gradient."""
        for parameter, correction in self._corrections.items():
            if parameter.grad is not None:
                parameter.grad.add_(correction)
        self.optimiser.step()


def batch_scale(masks: Tensor, cases: Sequence[int], data: ShardDataset) -> float:
    """FedGS' scaling factor of a batch: masks B×1×H×W, as augmented, of these `cases` of `data`."""
    small = [data.lesion(case) == "small" for case in cases]
    bases = [data.small_rule(case).log_base for case in cases]
    areas = masks.flatten(1).sum(1).cpu().numpy()
    return scaling_factor(areas, small, masks[0].numel(), bases)


def make_local_update(
    name: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    mu: float = 0.0,
    correction: Weights | None = None,
) -> LocalUpdate:
    """The rule `name`, at the start of a round.

    Args:
        name: plain, fedgs, fedprox or scaffold.
        model: as received, on its device.
        optimiser: of its parameters.
        mu: FedProx's μ.
        correction: SCAFFOLD's c − cᵢ, by parameter.

    Raises:
        ValueError: no such rule, or SCAFFOLD without a correction.
    """
    match name:
        case "plain":
            return LocalUpdate(model, optimiser)
        case "fedgs":
            return FedGS(model, optimiser)
        case "fedprox":
            return FedProx(model, optimiser, mu)
        case "scaffold" if correction is not None:
            return Scaffold(model, optimiser, correction)
    raise ValueError(
        f"got local rule {name!r}, expected plain, fedgs, fedprox, or scaffold with a correction"
    )
