"""How clients' reports become models: running sums in float64, each entry cast back to its own dtype.

Sources: FLAMES (section 4, personalisation and generalisation) and FedAvg (McMahan et al. 2017).
Knows nothing of Flower, torch or files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights

Groups = Literal["all", "modality", "none"]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Three orthogonal choices, and whether clients pool their data instead of federating."""

    local: Literal["plain"]
    """What a client reports: its weights."""
    groups: Groups
    """Who shares a model: all clients, those of one modality, none."""
    blend: Literal["mean", "flames"]
    """How reports become models."""
    weight: Literal["examples", "uniform"] = "examples"
    """What a report counts in the mean."""
    pooled: bool = False
    """One client a group holds the data of all: the centralised bound, no federation."""
    summary: str = ""

    def group_of(self, client: str, modality: str) -> str:
        """The name of the server model that this client trains."""
        return {"all": "all", "modality": modality, "none": client}[self.groups]


@dataclass(frozen=True, slots=True)
class Report:
    """What a client reports after its local training; `n_examples` are images, not batches."""

    client: str
    modality: str
    weights: Weights
    n_examples: int
    n_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """The models of a federation after `round` rounds."""

    round: int
    server: dict[str, Weights]
    """By group."""
    personal: dict[str, Weights] = field(default_factory=dict)
    """By client, where the algorithm personalises; else the client's model is its group's."""

    def model_for(self, client: str, group: str) -> Weights:
        """What the client starts its next round from: its personalised model, else its group's."""
        return self.personal.get(client, self.server[group])


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The new state, who took part, and who was refused and why."""

    state: State
    accepted: tuple[str, ...]
    refused: dict[str, str]


class RunningSum:
    """Σ factor·weights in float64, one report at a time; memory of one model."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}
        self.total = 0.0

    def add(self, weights: Weights, factor: float) -> None:
        """Add `factor`·`weights`; the sum's total grows by `factor`."""
        self.total += factor
        for name, array in weights.items():
            scaled = np.multiply(array, factor, dtype=np.float64)
            if name in self._sums:
                self._sums[name] += scaled
            else:
                self._sums[name] = np.asarray(scaled, np.float64)

    def mean(self, like: Weights) -> Weights:
        """The sum divided by the total, each entry in the dtype of `like`."""
        return {name: _cast(self._sums[name] / self.total, like[name].dtype) for name in like}

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]


def _cast(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Integers (BatchNorm's counters) are rounded, so that they keep their type."""
    return np.asarray(np.rint(values) if np.issubdtype(dtype, np.integer) else values, dtype)


def weighted_mean(arrays: Sequence[Weights], weights: Sequence[float]) -> Weights:
    """Σ wᵢ·arraysᵢ / Σ wᵢ, entry by entry (FedAvg where wᵢ is the number of examples).

    Raises:
        ValueError: nothing to average, lengths or entries that differ, a weight that is negative or not
            finite, or weights that sum to zero.
    """
    _check_alike(arrays, weights)
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights {list(weights)} must be finite, not negative, and sum to more than 0")
    running = RunningSum()
    for entry, weight in zip(arrays, weights, strict=True):
        running.add(entry, float(weight))
    return running.mean(arrays[0])


def flames_alpha(n_clients: int) -> float:
    """A client's own share, 0.1 + 1/K, never above 1 (FLAMES, section 4; uncapped, K = 1 gives 1.1)."""
    return min(1.0, 0.1 + 1.0 / n_clients)


def blend_flames(
    arrays: Sequence[Weights], n_examples: Sequence[int], alpha: float | None = None
) -> tuple[list[Weights], Weights]:
    """FLAMES for the clients of one modality: (personalised models, server model).

    personalisedᵢ = α·wᵢ + (1−α)·Σ_{j≠i} cᵢⱼ·wⱼ with cᵢⱼ = (1/nⱼ) / Σ_{l≠i} (1/n_l); the server model is the
    plain mean. From the sums S = Σ wₖ/nₖ and T = Σ 1/nₖ each is O(1): Σ_{j≠i} wⱼ/nⱼ = S − wᵢ/nᵢ.

    Args:
        arrays: the K clients' weights.
        n_examples: their numbers of training images, each above 0.
        alpha: own share in [0, 1]; None means `flames_alpha(K)`. With K = 1 there is nobody else: it is 1.

    Raises:
        ValueError: nothing to blend, entries that differ, a count not above 0, alpha outside [0, 1].
    """
    _check_alike(arrays, n_examples)
    if any(n <= 0 for n in n_examples):
        raise ValueError(f"numbers of examples {list(n_examples)} must all be above 0")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, expected a number in [0, 1]")
    own = flames_alpha(len(arrays)) if alpha is None or len(arrays) == 1 else alpha
    inverse, plain = RunningSum(), RunningSum()
    for entry, n in zip(arrays, n_examples, strict=True):
        inverse.add(entry, 1.0 / n)
        plain.add(entry, 1.0)
    personalised = [_personalise(entry, n, own, inverse) for entry, n in zip(arrays, n_examples, strict=True)]
    return personalised, plain.mean(arrays[0])


def _personalise(own_weights: Weights, n: int, alpha: float, inverse: RunningSum) -> Weights:
    if alpha == 1.0:
        return {name: array.copy() for name, array in own_weights.items()}
    others = inverse.total - 1.0 / n
    blended = {}
    for name, array in own_weights.items():
        own = array.astype(np.float64)
        blended[name] = _cast(alpha * own + (1 - alpha) * (inverse[name] - own / n) / others, array.dtype)
    return blended


def _check_alike(arrays: Sequence[Weights], counts: Sequence[float]) -> None:
    if not arrays or len(arrays) != len(counts):
        raise ValueError(
            f"got {len(arrays)} sets of weights and {len(counts)} counts, expected the same, at least 1"
        )
    for index, entry in enumerate(arrays):
        if problem := find_difference(entry, arrays[0]):
            raise ValueError(f"weights {index} differ from weights 0: {problem}")


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


def refuse(report: Report, reference: Weights) -> str | None:
    """Why `report` cannot be used, or None: entries that differ, values not finite, no examples."""
    if report.n_examples <= 0:
        return f"it reports {report.n_examples} examples, expected more than 0"
    if problem := find_difference(report.weights, reference):
        return problem
    for name, array in report.weights.items():
        if not np.isfinite(array).all():
            return f"'{name}' holds values that are not finite"
    return None


def apply_round(state: State, reports: Iterable[Report], algorithm: Algorithm) -> RoundResult:
    """One round: check every report as it comes, then blend group by group.

    A refused report leaves the round to the others; a group without a good report keeps its models. The
    mean needs one running sum a group; FLAMES keeps its reports, which become the personalised models.
    The order in which reports come does not matter beyond rounding, and `state` is not changed.
    """
    sums: dict[str, RunningSum] = {}
    kept: dict[str, list[Report]] = {}
    accepted: list[str] = []
    refused: dict[str, str] = {}
    for report in reports:
        group = algorithm.group_of(report.client, report.modality)
        reason = _refuse_in_round(report, group, state, accepted)
        if reason:
            refused[report.client] = reason
            continue
        accepted.append(report.client)
        if algorithm.blend == "flames":
            kept.setdefault(group, []).append(report)
        else:
            factor = float(report.n_examples) if algorithm.weight == "examples" else 1.0
            sums.setdefault(group, RunningSum()).add(report.weights, factor)
    server, personal = dict(state.server), dict(state.personal)
    for group, running in sums.items():
        server[group] = running.mean(state.server[group])
    for group, group_reports in kept.items():
        # In order of name, so that the order of arrival cannot change a rounding.
        ordered = sorted(group_reports, key=lambda report: report.client)
        models, server[group] = blend_flames([r.weights for r in ordered], [r.n_examples for r in ordered])
        personal.update(zip((r.client for r in ordered), models, strict=True))
    return RoundResult(State(state.round + 1, server, personal), tuple(accepted), refused)


def _refuse_in_round(report: Report, group: str, state: State, accepted: Sequence[str]) -> str | None:
    if report.client in accepted:
        return "it reported twice in one round"
    if group not in state.server:
        return f"there is no model for '{group}', expected one of {sorted(state.server)}"
    return refuse(report, state.server[group])
