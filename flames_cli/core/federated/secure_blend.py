"""The round of a server that sees only sums: new models of the groups, and what clients need for their own.

With factors cᵤ proportional to 1/nᵤ, FLAMES' sums are S = Σ cᵤ·wᵤ and T = Σ cᵤ. The server stores T, and S
under the mask of the group, which only the clients can remove. Client i computes Σ_{j≠i} cⱼ·wⱼ = S − cᵢ·wᵢ
itself, and its personalised model (FLAMES, section 4) α·wᵢ + (1 − α)·(S − cᵢ·wᵢ)/(T − cᵢ), which never
leaves it.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.choice import flames_alpha
from flames_cli.core.federated.distributed_noise import private_mean
from flames_cli.core.federated.final_statistics import VARIANCE
from flames_cli.core.federated.new_model import make_new_model
from flames_cli.core.federated.reports import Entries, LastReport, OpenedSum, RoundResult, State
from flames_cli.core.federated.running_sum import cast
from flames_cli.core.federated.sum_layout import Sums, unit_of
from flames_cli.core.federated.summed_preferences import N_PARTS

Weighing = Literal["inverse", "examples", "steps", "uniform"]
"""Rule for the factor of a client in a sum."""
INVERSE: Weighing = "inverse"
WEIGHINGS: tuple[Weighing, ...] = (INVERSE, "examples", "steps", "uniform")


def weighing_of(algorithm: Algorithm) -> Weighing:
    """Return the rule for the factors of clients in the sums of an algorithm."""
    return INVERSE if algorithm.blends_for_each else algorithm.weight


def weigh(weighing: Weighing, n_examples: int, n_steps: int, reference: int) -> float:
    """Return a client's factor c in a sum, in (0, 1].

    Args:
        weighing: by images, steps, not at all, or inversely to the images.
        n_examples: number of the client's training images.
        n_steps: number of steps that it made.
        reference: largest number that a client of the group may have; for `inverse` the smallest number of
            images.

    Raises:
        ValueError: the factor is not in (0, 1].
    """
    count = {"inverse": n_examples, "examples": n_examples, "steps": n_steps, "uniform": 1}[weighing]
    factor = 0.0
    if count > 0 and reference > 0:
        factor = reference / count if weighing == INVERSE else count / reference
    if not 0 < factor <= 1:
        raise ValueError(f"a client with {count} of {reference} ({weighing}) has no factor from 0 to 1")
    return factor


def apply_sums(
    state: State,
    opened: Mapping[str, tuple[tuple[str, ...], Sums]],
    algorithm: Algorithm,
    entries: Entries,
    wire: str = "fp32",
) -> RoundResult:
    """Return the state after a round of which only sums are known; groups without a sum are unchanged.

    With privacy, the sums are of clipped updates with noise.

    Args:
        state: state after the previous round, which is not changed.
        opened: clients and sums of each group that was opened.
        algorithm: rule that makes models.
        entries: roles of the model's entries.
        wire: type in which models travel.
    """
    round_ = state.round + 1
    server, optimiser = dict(state.server), dict(state.optimiser_state)
    clients, sums = dict(state.clients), list(state.sums)
    for group, (names, found) in opened.items():
        start = state.server[group]
        shared = entries.shared_of(start)
        personal = algorithm.blends_for_each
        sums_of_mean = (found.plain, float(len(names))) if personal else (found.weighted, found.factor)
        if algorithm.privacy:
            mean = private_mean(shared, found.weighted, len(names), entries, wire)
        else:
            mean = _without_negative(_mean(*sums_of_mean, shared), entries.variances)
        server[group], optimiser[group] = make_new_model(
            algorithm, entries, start, mean, optimiser.get(group, {}), round_
        )
        clients |= {name: LastReport(group, round_) for name in names}
        if personal:
            results = tuple(map(float, found.numbers[-N_PARTS:])) if algorithm.clients_choose else ()
            one = OpenedSum(group, round_, names, found.hidden, found.session, found.factor, results)
            sums.append(one)
    after = replace(
        state,
        round=round_,
        server=server,
        optimiser_state={name: kinds for name, kinds in optimiser.items() if kinds},
        clients=clients,
        sums=tuple(one for one in sums if any(_needs(clients, name, one) for name in one.clients)),
    )
    accepted = sorted(name for names, _ in opened.values() for name in names)
    unchanged = tuple(group for group in state.server if group not in opened)
    return RoundResult(after, tuple(accepted), {}, unchanged)


def _needs(clients: Mapping[str, LastReport], name: str, one: OpenedSum) -> bool:
    """Return whether client `name` makes its model from this sum."""
    last = clients.get(name)
    return last is not None and (last.group, last.round) == (one.group, one.round)


def _mean(sums: Weights, total: float, like: Weights) -> Weights:
    return {name: cast(sums[name] / total, array.dtype) for name, array in like.items()}


def _without_negative(weights: Weights, variances: Set[str]) -> Weights:
    """Return `weights` with variances of at least 0, since a sum of fixed-point numbers is rounded."""
    return {name: np.maximum(array, 0) if name in variances else array for name, array in weights.items()}


@dataclass(frozen=True, slots=True)
class GroupSum:
    """The sum that has a client's last accepted report, as the client reads it."""

    weighted: Weights
    """S by entry, as it is decoded from the words (see `sum_layout.unit_of`)."""
    total: float
    """T."""
    clients: int
    """Number K of clients in the sum."""
    error: float
    """Largest error of a decoded number of the sum."""


def personalise(own: Weights, factor: float, found: GroupSum) -> Weights:
    """Return the personalised model of a client whose report is part of a sum, in the dtypes of `own`.

    Args:
        own: the client's own report wᵢ in the round of the sum.
        factor: its factor cᵢ.
        found: the sum.

    Raises:
        ValueError: the total is not above the factor, or there are fewer than two clients.
    """
    total, n_clients = found.total, found.clients
    if n_clients < 2 or not total > factor > 0:
        raise ValueError(
            f"a sum of {n_clients} clients has the total {total:g}, expected more than {factor:g}, the part "
            "of one of them"
        )
    alpha = flames_alpha(n_clients)
    shared = (1 - alpha) / (total - factor)
    mixed: Weights = {}
    for name, array in own.items():
        wide, unit = array.astype(np.float64), unit_of(array.dtype)
        weighted = found.weighted[name] * unit
        blend = (alpha - shared * factor) * wide + shared * weighted
        # Frozen entries are equal in all reports, and must not change in their last bit.
        equal = np.abs(weighted - total * wide) <= 2 * found.error * (unit + np.abs(wide))
        exact = cast(np.where(equal, wide, blend), array.dtype)
        mixed[name] = np.maximum(exact, 0) if name.endswith(VARIANCE) else exact
    return mixed
