"""Local update rules: how a client uses its gradients, and which weights it reports.

Each rule has the model and its optimiser, makes the steps, and returns the weights to report.
`make_local_update` creates a rule by its name or class in `Algorithm.local_update`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import scaling_factor
from flames_cli.core.federated.reports import find_fault, find_not_finite
from flames_cli.core.federated.running_sum import cast
from flames_cli.errors import FlamesError
from flames_cli.learn.batches import is_async
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.device_shard import to_device
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.optimisers import ScaledOptimiser
from flames_cli.learn.train_options import PluginRule
from flames_cli.plugins import describe_error


class LocalUpdate:
    """The plain rule: the optimiser's own step; trained weights are reported. Base class of the others.

    A plug-in's class is called with (model, optimiser) at the start of a client's round; the model has the
    received weights.
    """

    uses_scale: bool = False
    """True if the rule scales steps in its report; the caller then sets `scale` before each step."""
    keeps_state: bool = False
    """True if the client stores `state` between its rounds; it never leaves the client."""
    n_steps: int = 0
    """Number of steps of this round; it is set before the first one."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimiser = optimiser
        self.scale: float | Tensor = 1.0
        """Factor by which the next step counts in the report."""
        self.differentiate: Callable[[], Tensor] = _no_batch
        """differentiate() computes the gradients of the step's batch again, at the model's current weights,
        and returns the loss; for use in `step`."""

    def load_state(self, state: Weights) -> None:
        """Take the state after the client's last accepted round; not called before the first one."""

    def step(self) -> None:
        """Make one step with the current gradients."""
        self.optimiser.step()

    @property
    def changes_report(self) -> bool:
        """True if the report differs from the trained weights: if a class has its own `weights`."""
        return type(self).weights is not LocalUpdate.weights

    def state(self) -> Weights:
        """Return the arrays that the client stores for its next round, by any name; as `weights`, they are
        those of the reported epoch."""
        return {}

    def weights(self) -> Weights:
        """Return the weights that the client would report now."""
        return to_weights(self.model)


def _no_batch() -> Tensor:
    raise RuntimeError("there is no batch outside of step()")


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


class PluginUpdate(LocalUpdate):
    """A rule of a plug-in: its results are checked, and its errors name the plug-in."""

    def __init__(self, rule: PluginRule, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        super().__init__(model, optimiser)
        self._label = rule.label
        with self._named("__init__()"):
            self._rule = rule.kind(model, optimiser)
        self.uses_scale = bool(self._rule.uses_scale)
        # The server and the client ask the class, before there is an object.
        self.keeps_state = bool(rule.kind.keeps_state)
        if bool(self._rule.keeps_state) != self.keeps_state:
            raise self._wrong("__init__()", "keeps_state another value than the class has", "it in the class")

    def load_state(self, state: Weights) -> None:
        """Hand copies of the arrays to the plug-in."""
        with self._named("load_state()"):
            self._rule.load_state({name: array.copy() for name, array in state.items()})

    def step(self) -> None:
        """Let the plug-in make one step."""
        self._rule.n_steps, self._rule.scale = self.n_steps, self.scale
        self._rule.differentiate = self.differentiate
        with self._named("step()"):
            self._rule.step()

    @property
    def changes_report(self) -> bool:
        """True if the plug-in says so."""
        with self._named("changes_report"):
            return bool(self._rule.changes_report)

    def weights(self) -> Weights:
        """Return the plug-in's report: the entries of the model, each in its own dtype."""
        with self._named("weights()"):
            found = self._arrays("weights()", self._rule.weights())
        expected = to_weights(self.model)
        found |= {name: cast(found[name], like.dtype) for name, like in expected.items() if name in found}
        if fault := find_fault(found, expected):
            raise self._wrong("weights()", fault, "finite arrays with the names and shapes of the model")
        return {name: found[name] for name in expected}

    def state(self) -> Weights:
        """Return the plug-in's state."""
        with self._named("state()"):
            found = self._arrays("state()", self._rule.state())
        if fault := find_not_finite(found):
            raise self._wrong("state()", fault, "numbers")
        return found

    def _arrays(self, call: str, found: object) -> Weights:
        """Return copies of arrays of numbers by name."""
        if not isinstance(found, Mapping) or not all(type(name) is str and name for name in found):
            raise self._wrong(call, f"a {type(found).__name__}", "a dict of arrays by name")
        arrays = {}
        for name, value in found.items():
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:  # no file has a long double
                raise self._wrong(call, f"'{name}' of type {array.dtype}", "arrays of numbers")
            arrays[name] = np.array(array)  # the plug-in may change its own later
        return arrays

    @contextmanager
    def _named(self, call: str) -> Iterator[None]:
        """Raise FlamesError with the plug-in's name in place of its error."""
        try:
            yield
        except (FlamesError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a plug-in may raise anything
            raise FlamesError(
                f"{self._label}: {call} of its local update fails ({describe_error(error)}); correct the "
                "plug-in"
            ) from error

    def _wrong(self, call: str, found: str, expected: str) -> FlamesError:
        return FlamesError(
            f"{self._label}: {call} of its local update gives {found}, expected {expected}; correct the "
            "plug-in"
        )


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
    rule: str | PluginRule,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    mu: float = 0.0,
    correction: Weights | None = None,
) -> LocalUpdate:
    """Create the local update rule at the start of a round.

    Args:
        rule: "plain", "fedgs", "fedgs-unscaled", "fedprox" or "scaffold"; or the class of a plug-in.
        model: the model with the received weights, on its device.
        optimiser: the optimiser of the model's parameters.
        mu: proximal coefficient μ of FedProx.
        correction: c − cᵢ of SCAFFOLD, by parameter name.

    Raises:
        ValueError: an unknown rule, or SCAFFOLD without a correction.
        FlamesError: a plug-in's class fails.
    """
    match rule:
        case PluginRule():
            return PluginUpdate(rule, model, optimiser)
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
        f"got local update rule {rule!r}, expected plain, fedgs, fedgs-unscaled, fedprox, or scaffold with a "
        "correction"
    )
