"""The choice of a client's model among candidates, by validation patients, with shrinkage towards FLAMES.

A client of flames-adaptive validates every candidate. Few validation patients say little, so its own result
counts by their number, and the result of the other clients of its modality fills the rest; where nobody has
validation patients, every client uses FLAMES' blend.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FLAMES, EQUAL, NEAR, FAR, OWN = "flames", "equal", "near", "far", "own"
CANDIDATES = (FLAMES, EQUAL, NEAR, FAR, OWN)
"""Names of the candidates; of equal scores the first one wins. All are FLAMES' blend with another share of
a client's own weights. FLAMES: α = 0.1 + 1/K; EQUAL: 1/K, which for two clients, or clients of equal size, is
the plain mean of the modality; NEAR: (1 + α)/2; FAR: α/2; OWN: 1."""

DECAY = 0.7
"""Weight of a client's earlier rounds relative to the next one."""

PRIOR_PATIENTS = 8.0
"""Number of validation patients whose result counts as much as the expectation before it."""

PENALTY = 0.01
"""Dice that a candidate must gain for a distance of 1 between its own share and that of FLAMES."""

MOST_PATIENTS = 50
"""Largest number of patients with which a client counts for the other clients of its modality: it states
the number itself."""

MOST_CLIENTS = 1_000_000


def flames_alpha(n_clients: int) -> float:
    """Return a client's own share α = 0.1 + 1/K, at most 1.

    Source: FLAMES, section 4; without the limit, K = 1 would give 1.1.
    """
    return min(1.0, 0.1 + 1.0 / n_clients)


def own_share(candidate: str, n_clients: int) -> float:
    """Return the share of a client's own weights in a candidate, if `n_clients` clients are blended."""
    alpha = flames_alpha(n_clients)
    return {FLAMES: alpha, EQUAL: 1 / n_clients, NEAR: (1 + alpha) / 2, FAR: alpha / 2, OWN: 1.0}[candidate]


@dataclass(frozen=True, slots=True)
class Choice:
    """A client's choice in one round, and the validation that led to it.

    Raises:
        ValueError: the candidate is unknown, the results are not those of all candidates, or a number is
            outside its limits.
    """

    pick: str
    """Name of the chosen candidate."""
    patients: int = 0
    """Number of validation patients."""
    dice: dict[str, float] = field(default_factory=dict)
    """Mean Dice by candidate over the validation images; empty without validation patients."""

    def __post_init__(self) -> None:
        if self.pick not in CANDIDATES:
            raise ValueError(f"the choice is {self.pick[:40]!r}, expected one of {', '.join(CANDIDATES)}")
        if self.patients < 0 or (self.patients == 0) != (not self.dice):
            raise ValueError(f"the choice is based on {self.patients} patients and {len(self.dice)} results")
        if self.dice and self.dice.keys() != set(CANDIDATES):
            raise ValueError(f"the choice is based on results other than those of {', '.join(CANDIDATES)}")
        if not all(0 <= dice <= 1 for dice in self.dice.values()):  # never true of NaN
            raise ValueError("the choice is based on a Dice outside 0 to 1")

    def as_json(self) -> dict[str, Any]:
        """Return the entries of a client in rounds.jsonl and final-models.json."""
        return {"pick": self.pick, "candidates": self.dice}


def presence_reason(choice: Choice | None, offered: bool) -> str:
    """Return why a report should not be without `choice`, or not have it; "" if that is as `offered`."""
    if offered == (choice is not None):
        return ""
    found, expected = ("no", "one") if offered else ("a", "none")
    return f"it reports {found} choice of its model, expected {expected}"


@dataclass(frozen=True, slots=True)
class Preference:
    """The server's record of a client: its number of images, and its gains over the rounds so far.

    Raises:
        ValueError: a number is outside its limits, or a candidate is unknown.
    """

    n_examples: int
    """Number of training images of the last accepted report."""
    patients: int = 0
    """Number of validation patients of the last choice."""
    rounds: float = 0.0
    """Sum of the weights of the rounds in `gains`."""
    gains: dict[str, float] = field(default_factory=dict)
    """Mean over rounds of the Dice of a candidate minus that of FLAMES, by candidate, newer rounds more."""

    def __post_init__(self) -> None:
        if self.n_examples <= 0 or self.patients < 0:
            raise ValueError(f"{self.n_examples} images and {self.patients} patients are not possible")
        _check_gains(self.rounds, self.gains)


@dataclass(frozen=True, slots=True)
class Prior:
    """Knowledge with which a client enters its choice; the server sends it.

    Raises:
        ValueError: a number is outside its limits, or a candidate is unknown.
    """

    n_clients: int
    """Number of clients that are blended, this one included."""
    rounds: float = 0.0
    gains: dict[str, float] = field(default_factory=dict)
    """Both as in the client's `Preference`."""
    pooled: dict[str, float] = field(default_factory=dict)
    """Gain that the results of the other clients of the modality let expect, by candidate."""

    def __post_init__(self) -> None:
        if not 2 <= self.n_clients <= MOST_CLIENTS:
            raise ValueError(f"{self.n_clients} clients are blended, expected 2 to {MOST_CLIENTS}")
        for gains in (self.gains, self.pooled):
            _check_gains(self.rounds, gains)


def _check_gains(rounds: float, gains: Mapping[str, float]) -> None:
    if not 0 <= rounds < math.inf:
        raise ValueError(f"the weight of earlier rounds is {rounds}, expected 0 or more")
    if gains.keys() - set(CANDIDATES) or not all(-1 <= gain <= 1 for gain in gains.values()):
        raise ValueError(f"gains are {gains}, expected numbers from -1 to 1 of known candidates")


def choose(prior: Prior, patients: int, dice: Mapping[str, float]) -> str:
    """Return the candidate with the highest score.

    Args:
        prior: knowledge before this round.
        patients: number of validation patients whose results `prior` or `dice` contain.
        dice: mean Dice by candidate in this round; empty: there was no validation.
    """
    scored = scores(prior, patients, dice)
    return max(CANDIDATES, key=lambda name: scored[name])  # the first of equal ones


def scores(prior: Prior, patients: int, dice: Mapping[str, float]) -> dict[str, float]:
    """Return the score of every candidate c: (n·own(c) + m·pooled(c)) / (n + m) − λ·|share(c) − α|.

    `own` are the client's gains with those of this round, n its patients, m PRIOR_PATIENTS, λ PENALTY.
    Arguments as in `choose`.
    """
    gains = add_round(prior.rounds, prior.gains, dice)[1]
    alpha, total = flames_alpha(prior.n_clients), patients + PRIOR_PATIENTS

    def score(name: str) -> float:
        own, pooled = gains.get(name, 0.0), prior.pooled.get(name, 0.0)
        distance = abs(own_share(name, prior.n_clients) - alpha)
        return (patients * own + PRIOR_PATIENTS * pooled) / total - PENALTY * distance

    return {name: score(name) for name in CANDIDATES}


def add_round(
    rounds: float, gains: Mapping[str, float], dice: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Return `rounds` and `gains` of a `Preference` with one more round, whose results are `dice`."""
    if not dice:
        return rounds, dict(gains)
    before = DECAY * rounds
    added = {
        name: (before * gains.get(name, 0.0) + dice[name] - dice[FLAMES]) / (before + 1)
        for name in CANDIDATES
        if name != FLAMES
    }
    # Rounding must not lead outside the limits that every reader checks.
    return before + 1, {name: min(max(gain, -1.0), 1.0) for name, gain in added.items()}


def pool(others: Iterable[Preference]) -> dict[str, float]:
    """Return the gain by candidate that `others` let expect: Σ nₖ·gainₖ / (Σ nₖ + m).

    nₖ is a client's number of patients, at most MOST_PATIENTS, and m PRIOR_PATIENTS, so that few patients
    lead to an expectation near 0, where FLAMES is chosen.
    """
    counted = [(min(one.patients, MOST_PATIENTS), one.gains) for one in others if one.gains]
    total = sum(n for n, _ in counted) + PRIOR_PATIENTS
    names = [name for name in CANDIDATES if name != FLAMES]
    return {name: sum(n * gains.get(name, 0.0) for n, gains in counted) / total for name in names if counted}


def update(before: Preference | None, n_examples: int, choice: Choice | None) -> Preference:
    """Return a client's record after a report with `n_examples` images; None: there was nothing to choose."""
    old = before or Preference(n_examples)
    if choice is None or not choice.dice:
        return Preference(n_examples, old.patients, old.rounds, old.gains)
    rounds, gains = add_round(old.rounds, old.gains, choice.dice)
    return Preference(n_examples, choice.patients, rounds, gains)
