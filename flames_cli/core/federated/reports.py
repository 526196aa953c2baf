"""What comes into a round and what goes out of it, and what makes a report unusable."""

from collections.abc import Set
from dataclasses import dataclass, field, replace

import numpy as np

from flames_cli.arrays import Weights


@dataclass(frozen=True, slots=True)
class Entries:
    """Which entries of a state dict are what."""

    trainable: frozenset[str]
    """Parameters; what else there is are buffers, which servers only ever average."""
    norm: frozenset[str]
    """BatchNorm's, parameters and buffers."""
    shared: frozenset[str] | None = None
    """What clients report; the rest stays with them. None: every entry."""
    style: frozenset[str] = frozenset()
    """The image decoder's, which clients may lend each other to augment their images' style."""
    variances: frozenset[str] = frozenset()
    """BatchNorm's running variances, which are never below 0."""

    @classmethod
    def of(cls, weights: Weights) -> "Entries":
        """Of a model of which nothing is known: floats are parameters, none BatchNorm's, all are shared."""
        return cls(frozenset(floats_of(weights)), frozenset())

    def shared_of(self, weights: Weights) -> Weights:
        """The entries of `weights` that clients report."""
        return weights if self.shared is None else select(weights, self.shared)

    def parameters_of(self, weights: Weights) -> Weights:
        """The parameters among them: what server steps move and control variates are of."""
        return select(self.shared_of(weights), self.trainable)


@dataclass(frozen=True, slots=True)
class Report:
    """What a client reports after its local training; `n_examples` are images, not batches."""

    client: str
    modality: str
    weights: Weights
    n_examples: int
    n_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    control: Weights | None = None
    """SCAFFOLD: how the client's control variate has changed, by parameter."""
    style: Weights | None = None
    """The client's image decoder, for the others' style augmentation."""
    round: int = 0
    """Of the training that it tells of; 0: it does not say."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a report was from what its client had been sent, and in how many steps it went there."""

    norms: dict[str, float] = field(default_factory=dict)
    """L2, by part of the report, divided by the learning rate; empty: not known."""
    steps: int = 0


@dataclass(frozen=True, slots=True)
class LastReport:
    """A client's group, and the round of its last report that was taken; 0: none was."""

    group: str
    round: int = 0
    moved: Moved = field(default_factory=Moved)


@dataclass(frozen=True, slots=True)
class State:
    """The models of a federation after `round` rounds, and what the server remembers between them."""

    round: int
    server: dict[str, Weights]
    """By group."""
    personal: dict[str, Weights] = field(default_factory=dict)
    """By client, where the algorithm personalises: the entries that it has of its own, all or some."""
    optimiser_state: dict[str, dict[str, Weights]] = field(default_factory=dict)
    """By group, by kind: momentum, adam_m, adam_v, control; by parameter, in the parameter's dtype."""
    styles: dict[str, Weights] = field(default_factory=dict)
    """By client: the image decoders last reported."""
    clients: dict[str, LastReport] = field(default_factory=dict)
    """Every client that has ever joined, by name."""
    releases: int = 0
    """Rounds whose models were blurred for privacy and left the server, whatever became of them since."""

    def model_for(self, client: str, group: str) -> Weights:
        """What the client starts its next round from: its group's model with the client's own entries."""
        server, own = self.server[group], self.personal.get(client)
        return server if own is None else {**server, **own}


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The new state, who took part, who was refused and why, and the groups that nobody's report moved."""

    state: State
    accepted: tuple[str, ...]
    rejected: dict[str, str]
    unchanged_groups: tuple[str, ...] = ()
    """Groups that keep their models for want of a good report."""


def count_releases_again(state: State, rounds: int) -> State:
    """`state`, from which `rounds` are done again that clients or readers of the run have seen already.

    Where other reports come this time, those see two releases of a round, and both are to be paid for.
    """
    return replace(state, releases=state.releases + rounds)


def select(weights: Weights, names: Set[str]) -> Weights:
    """The entries of `weights` called `names`, in their order."""
    return {name: array for name, array in weights.items() if name in names}


def floats_of(weights: Weights) -> Weights:
    """The entries of `weights` that are floats, in their order."""
    return {name: array for name, array in weights.items() if np.issubdtype(array.dtype, np.floating)}


def find_difference(weights: Weights, reference: Weights) -> str | None:
    """The first way in which keys, shapes or dtypes differ from `reference`; None where they agree."""
    if missing := [name for name in reference if name not in weights]:
        return f"'{missing[0]}' is missing"
    if extra := [name for name in weights if name not in reference]:
        return f"'{extra[0]}' is not in the model"
    for name, expected in reference.items():
        got = weights[name]
        if got.shape != expected.shape:
            return f"'{name}' has shape {got.shape}, expected {expected.shape}"
        if got.dtype != expected.dtype:
            return f"'{name}' is {got.dtype}, expected {expected.dtype}"
    return None


def find_fault(weights: Weights, reference: Weights) -> str | None:
    """The first difference from `reference`, or entry with values not finite; None where all is well."""
    return find_difference(weights, reference) or find_not_finite(weights)


def find_not_finite(weights: Weights) -> str | None:
    """The first entry that holds NaN or infinity; None where there is none."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            return f"'{name}' holds values that are not finite"
    return None


def find_negative_variance(weights: Weights, variances: Set[str]) -> str | None:
    """The first of the entries `variances` that holds a value below 0, which makes a model give NaN."""
    for name, array in weights.items():
        if name in variances and (array < 0).any():
            return f"'{name}' holds a negative variance"
    return None


def rejection_reason(report: Report, reference: Weights, variances: Set[str] = frozenset()) -> str | None:
    """Why `report` cannot be used, or None: no examples, entries that differ, values not finite, a negative
    one among `variances`."""
    if report.n_examples <= 0:
        return f"it reports {report.n_examples} examples, expected more than 0"
    return find_fault(report.weights, reference) or find_negative_variance(report.weights, variances)
