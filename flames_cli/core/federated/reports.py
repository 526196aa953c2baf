"""Reports and states of a federation: input and output of a round, and the checks of a report."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blocks import Blocks, compute
from flames_cli.core.federated.candidates import Candidates
from flames_cli.core.federated.choice import Choice, Preference
from flames_cli.core.federated.differences import find_difference
from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.progress import Progress


@dataclass(frozen=True, slots=True)
class Entries:
    """Roles of the entries of a state dict, by name."""

    trainable: frozenset[str]
    """Parameters; the other entries are buffers, which servers only average."""
    norm: frozenset[str]
    """Entries of normalisation layers, parameters and buffers."""
    shared: frozenset[str] | None = None
    """Entries that clients report; the other entries stay at the client. None: all entries."""
    style: frozenset[str] = frozenset()
    """Entries of the image decoder, which clients may lend each other for style augmentation."""
    variances: frozenset[str] = frozenset()
    """Running variances of BatchNorm, which are never below 0."""
    frozen: frozenset[str] = frozenset()
    """Entries that no client trains: they are as they were at the start."""

    @classmethod
    def of(cls, weights: Weights) -> "Entries":
        """Return roles for an unknown model: all floats are parameters, and clients report all entries."""
        return cls(trainable=frozenset(floats_of(weights)), norm=frozenset())

    def shared_of(self, weights: Weights) -> Weights:
        """Return the entries of `weights` that clients report."""
        return weights if self.shared is None else select(weights, self.shared)

    def parameters_of(self, weights: Weights) -> Weights:
        """Return the shared parameters: server steps move them, control variates have the same entries."""
        return select(self.shared_of(weights), self.trainable)


@dataclass(frozen=True, slots=True)
class Report:
    """A client's result of its local training in one round."""

    client: str
    modality: str
    weights: Weights
    n_examples: int
    """Number of training images (not of batches)."""
    n_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    control: Weights | None = None
    """Change of the client's control variate, by parameter (SCAFFOLD)."""
    style: Weights | None = None
    """The client's image decoder, for the style augmentation of other clients."""
    round: int = 0
    """Round of the training, from 1; 0: not stated."""
    choice: Choice | None = None
    """The client's choice of its start (flames-adaptive)."""
    preference: Preference | None = None
    """The client's record with this choice, which it stores itself with secure aggregation."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Distance between a report and the model that was sent to its client."""

    norms: dict[str, float] = field(default_factory=dict)
    """L2 norm of the difference divided by the learning rate, by part of the report; empty: not known."""
    steps: int = 0
    """Number of training steps that the client made."""


@dataclass(frozen=True, slots=True)
class LastReport:
    """The last accepted report of a client."""

    group: str
    """The client's model group."""
    round: int = 0
    """Round of the report; 0: no report of this client was accepted yet."""
    moved: Moved = field(default_factory=Moved)


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """Sum over a group's reports of one round (secure aggregation), from which each of its clients makes its
    own model; see `secure_blend`."""

    group: str
    round: int
    clients: tuple[str, ...]
    """Clients whose reports are in the sum."""
    words: Weights
    """S by shared entry, under the mask of the group: only the clients can read it."""
    session: str
    """Identifier of the session of the sum, whose key reads it."""
    total: float
    """T, the sum of the clients' factors."""
    preferences: tuple[float, ...] = ()
    """Sums of the clients' results with candidates (`summed_preferences`); empty: they do not choose."""


@dataclass(frozen=True, slots=True)
class State:
    """The models of a federation after `round` rounds, and the state that the server needs between rounds."""

    round: int
    server: dict[str, Weights]
    """Model of each model group."""
    personal: Mapping[str, Weights] = field(default_factory=dict)
    """Personal entries of each client, all or some of a model's; empty if the algorithm has none."""
    optimiser_state: dict[str, dict[str, Weights]] = field(default_factory=dict)
    """Server optimiser state by model group and kind (momentum, adam_m, adam_v, control, ema), each by entry
    and in the entry's dtype; `ema_rounds` has the number of models in `ema`."""
    styles: dict[str, Weights] = field(default_factory=dict)
    """Image decoder that each client reported last."""
    clients: dict[str, LastReport] = field(default_factory=dict)
    """Every client that has ever joined, by name."""
    releases: int = 0
    """Number of rounds whose noised models have left the server, including rounds that were lost later."""
    statistics: FinalStatistics | None = None
    """Statistics of this round's models, from the clients' pass after the last round; None before it."""
    preferences: dict[str, Preference] = field(default_factory=dict)
    """Record of each client that chooses its model; `personal` then has the clients' own weights."""
    sums: tuple[OpenedSum, ...] = ()
    """Sums from which clients make their own models: of each client's newest accepted round. Only runs with
    secure aggregation have them."""
    progress: Progress | None = None
    """Progress of an asynchronous federation; None: its rounds are in step."""

    def sum_of(self, client: str) -> OpenedSum | None:
        """Return the sum that has the client's last accepted report; None if there is none."""
        last = self.clients.get(client)
        found = (one for one in self.sums if last and (one.group, one.round) == (last.group, last.round))
        return next((one for one in found if client in one.clients), None)

    def model_for(self, client: str, group: str) -> Weights:
        """Return the model that the client trains next: its group's model with the client's own entries.

        If clients choose, these are the client's own weights, one of its candidates.
        """
        server, own = self.server[group], self.personal.get(client)
        return server if own is None else {**server, **own}

    def used_server_model(self, group: str) -> Weights:
        """Return the weights of a group's model for use: their moving average, if the run has one.

        No client trains from this average over rounds.
        """
        return {**self.server[group], **self.optimiser_state.get(group, {}).get("ema", {})}

    def used_model_for(self, client: str, group: str) -> Weights:
        """Return the weights that the client uses after this round.

        A client with personal entries uses the model that it would train next: there is no average of its
        own entries, and entries of the average do not fit them.
        """
        if client in self.personal:
            return self.model_for(client, group)
        return self.used_server_model(group)

    def group_of(self, client: str, modality: str, algorithm: Algorithm) -> str:
        """Return the model group of a client by `algorithm`.

        Raises:
            FlamesError: a plug-in's function gives another group than in the rounds before.
        """
        name, last = algorithm.model_group_of(client, modality), self.clients.get(client)
        if callable(algorithm.groups) and last and last.group != name:
            raise algorithm.group_changed(client, last.group, name)
        return name

    def final_model_for(self, client: str, group: str, modality: str = "") -> Weights:
        """Return the model that the client uses after this round, with its own statistics if it sent them.

        Without them, and without entries of its own, it uses its group's model with the statistics of that
        model (see `final_server_model`): so do the clients whose images are pooled. If clients choose, it is
        the model that the client has chosen after the last round or, without that choice, the one that
        follows from the earlier rounds.
        """
        found = self.statistics.clients.get(client, {}) if self.statistics else {}
        if not found and client not in self.personal:
            return self.final_server_model(group, modality)
        if client in self.preferences and not found.keys() >= self.personal[client].keys():
            found = {**self.candidates(group).expected(client), **found}
        return {**self.used_model_for(client, group), **found}

    def candidates(self, group: str) -> Candidates:
        """Return the models among which the clients of `group` choose."""
        members = {name: last for name, last in self.clients.items() if last.group == group}
        newest = max((members[name].round for name in self.preferences if name in members), default=0)
        mine = {name: one for name, one in self.preferences.items() if name in members}
        return Candidates(
            own={name: self.personal[name] for name in mine},
            preferences=mine,
            reported={name for name in mine if members[name].round == newest},
        )

    def final_server_model(self, group: str, modality: str) -> Weights:
        """Return the server's model of a group for use on images of `modality`.

        A model of all clients has the statistics of this modality's clients, or of all clients if the
        modality has none; the other models have those of their group's clients.
        """
        found = self.statistics or FinalStatistics()
        statistics = found.modalities.get(modality) or found.groups.get(group, {})
        return {**self.used_server_model(group), **statistics}


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The outcome of one round."""

    state: State
    accepted: tuple[str, ...]
    """Clients whose report was accepted."""
    rejected: dict[str, str]
    """Rejection reason of each client whose report was rejected."""
    unchanged_groups: tuple[str, ...] = ()
    """Model groups without a good report: their model is unchanged."""


def count_releases_again(state: State, rounds: int) -> State:
    """Return `state` with `rounds` more releases, for rounds that are repeated after their models were seen.

    If other reports arrive this time, clients and readers of the run see two releases of the same round, and
    the privacy account must include both.
    """
    return replace(state, releases=state.releases + rounds)


def select(weights: Weights, names: Set[str]) -> Weights:
    """Return the entries of `weights` called `names`, in the order of `weights`."""
    return {name: array for name, array in weights.items() if name in names}


def floats_of(weights: Weights) -> Weights:
    """Return the entries of `weights` with a floating-point dtype, in their order."""
    return {name: array for name, array in weights.items() if np.issubdtype(array.dtype, np.floating)}


def find_fault(weights: Weights, reference: Weights) -> str | None:
    """Describe the first difference from `reference` or the first entry that is not finite; None if valid."""
    return find_difference(weights, reference) or find_not_finite(weights)


def find_not_finite(weights: Weights) -> str | None:
    """Describe the first entry that contains NaN or infinity; None if all values are finite."""
    floats = floats_of(weights)
    if all(compute(_are_finite, [(array,) for array in floats.values()])):
        return None
    for name, array in floats.items():
        if not np.isfinite(array).all():
            return f"'{name}' contains values that are not finite"
    return None


def _are_finite(blocks: Blocks) -> bool:
    return all(np.isfinite(values).all() for (values,) in blocks)


def find_negative_variance(weights: Weights, variances: Set[str]) -> str | None:
    """Describe the first entry among `variances` with a value below 0, with which a model gives NaN."""
    for name, array in weights.items():
        if name in variances and (array < 0).any():
            return f"'{name}' contains a negative variance"
    return None


def rejection_reason(report: Report, reference: Weights, variances: Set[str] = frozenset()) -> str | None:
    """Return why `report` is invalid; None if it is valid.

    A report is invalid if it has no examples, if its entries differ from `reference`, if a value is not
    finite, or if one of the entries `variances` has a negative value.
    """
    if report.n_examples <= 0:
        return f"it reports {report.n_examples} examples, expected more than 0"
    return find_fault(report.weights, reference) or find_negative_variance(report.weights, variances)
