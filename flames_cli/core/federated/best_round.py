"""Validation Dice of every round of a run, pooled over its clients, and the best round.

The input are the lines of rounds.jsonl and the reports of the pass after the last round, so that a run that
was stopped and continued makes the same choice.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flames_cli.core.federated.round_parts import Record, received_round, scored_parts

Size = Literal["all", "small"]
"""Images that are scored: all, or those whose lesions are small by the rule of their data set."""

_ENDS: dict[Size, str] = {"all": "", "small": "_small"}
"""Ends of the names of Dice and number of images, by size."""

_Scores = dict[int, dict[str, tuple[float, float]]]
"""Dice and number of images, by round and client."""


@dataclass(frozen=True, slots=True)
class RoundScores:
    """Pooled validation Dice of the rounds of a run."""

    dice: dict[Size, dict[int, float]] = field(default_factory=dict)
    """Mean Dice over the validation images of all clients, by size of lesion and round."""
    patients: int = 0
    """Number of validation patients of all clients."""

    def of(self, round_: int, size: Size = "all") -> float | None:
        """Return the score of a round; None if no client validated its models."""
        return self.dice.get(size, {}).get(round_)

    def best(self, among: Collection[int], size: Size = "all") -> int | None:
        """Return the round with the highest score `among` some rounds, of equal ones the latest; None without
        a score."""
        scores = {round_: dice for round_, dice in self.dice.get(size, {}).items() if round_ in among}
        return max(scores, key=lambda round_: (scores[round_], round_), default=None)

    def best_rounds(self, among: Collection[int]) -> list[int]:
        """Return the best round for all images and the best one for small lesions, each once, in order."""
        found = {self.best(among, size) for size in _ENDS}
        return sorted(round_ for round_ in found if round_ is not None)


def score_rounds(lines: Sequence[Record], passes: Sequence[Record] = ()) -> RoundScores:
    """Return the pooled validation Dice of all rounds that have any.

    The line of round r has each client's validation of the model that it received, which is its model after
    round r − 1; without rounds in step, after the round with which it `began`. A round's score is
    Σ nₖ·Diceₖ / Σ nₖ over all clients k that ever reported a validation, with their nₖ images. A client
    without a report on a round counts with its last one before, and a client that joined later with its first
    one, so that all rounds are scored over the same clients. With secure aggregation the clients of a model
    count together. With rounds in step, a line that is added later therefore never changes the order of
    earlier rounds, unless a client's images change.

    Args:
        lines: lines of rounds.jsonl; those of earlier releases have no numbers of images and give no score.
        passes: reports on final models, which replace the numbers of the same rounds in lines.
    """
    return RoundScores(
        {size: _pool(_scores(lines, passes, end)) for size, end in _ENDS.items()},
        _count_patients([*lines, *passes]),
    )


def _pool(scores: _Scores) -> dict[int, float]:
    """Return the pooled Dice of each round from 1: round 0 has the models before any training."""
    known: dict[str, tuple[float, float]] = {}
    for round_ in sorted(scores, reverse=True):
        known |= scores[round_]  # ends with each client's first report
    pooled = {}
    for round_ in sorted(scores):
        known |= scores[round_]
        total = math.fsum(n for _, n in known.values())
        pooled[round_] = math.fsum(dice * n for dice, n in known.values()) / total
    return {round_: dice for round_, dice in pooled.items() if round_ > 0}


def _scores(lines: Sequence[Record], passes: Sequence[Record], end: str) -> _Scores:
    found: _Scores = {}
    for records, is_pass, name in ((lines, False, "received_val_dice"), (passes, True, "val_dice")):
        for record in records:
            for client in scored_parts(record):
                dice, n = _number(client, name + end), _number(client, f"n_val{end}")
                if dice is not None and n:
                    round_ = record["round"] if is_pass else received_round(record, client)
                    found.setdefault(round_, {})[str(client["client"])] = dice, n
    return found


def _count_patients(records: Sequence[Record]) -> int:
    """Return the sum of the clients' last numbers of validation patients."""
    patients: dict[str, float] = {}
    for record in records:
        for client in scored_parts(record):
            if n := _number(client, "n_val_patients"):
                patients[str(client["client"])] = n
    return int(sum(patients.values()))


def _number(client: Record, name: str) -> float | None:
    """Return a finite number of 0 or more; None if there is none."""
    value = client.get(name)
    valid = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if valid and value is not None else None
