"""Parts: scores divided into the lines of the tables, by model and organ; unseen sites are separate, and all
are pooled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.core.scores.intervals import Interval, bootstrap_interval
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score

ALL_ORGANS = "all organs"
POOLED = {"client_test": "all clients", "server_test": "all models"}
"""Label of the line of all models together, by split; a client's name cannot contain a space."""


SeedScores = Sequence[Sequence[Score]]
"""Scores of the same cases, in the same order, for each seed of a run; one row for a run with one seed."""


def pairs_seeds(ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Return whether gains are paired by seed: both runs have the same seeds, or both have one."""
    return tuple(ours) == tuple(theirs) or len(ours) == len(theirs) == 1


@dataclass(frozen=True, slots=True)
class Scored:
    """A model with its scores, and the scores of the other run's model on the same cases."""

    model: ModelUnderTest
    """The model of the first seed."""
    scores: SeedScores
    compared: SeedScores | None = None
    """None if there is no other run, or if it has no such model."""
    compared_label: str = ""
    """Label of that model in its own run."""
    same_seeds: bool = True
    """True if each row of `scores` has its counterpart in `compared`: both runs have the same seeds, or both
    have one."""


@dataclass(frozen=True, slots=True)
class Part:
    """Cases of one line of a table."""

    label: str
    modality: str
    """Empty if models of several modalities are pooled."""
    organ: str
    scores: SeedScores
    compared: SeedScores | None
    """Scores of the same cases, in the same order."""
    unseen: str = ""
    """The unseen sites of the cases, which no client has trained on; else empty."""
    same_seeds: bool = True

    def __post_init__(self) -> None:
        rows = (*self.scores, *(self.compared or ()))
        if len({tuple((score.dataset, score.case) for score in row) for row in rows}) > 1:
            raise ValueError("got scores of different cases, expected those of the same cases for all seeds")

    @property
    def cases(self) -> Sequence[Score]:
        """The cases of the part, with the scores of the first seed."""
        return self.scores[0]

    def only(self, wanted: Callable[[Score], bool]) -> "Part":
        """Return the part with the wanted cases only."""
        kept = None if self.compared is None else _filter(self.compared, wanted)
        return replace(self, scores=_filter(self.scores, wanted), compared=kept)

    def gains(self) -> Floats:
        """Return the differences in Dice to the other run, S×N by seed and case.

        Raises:
            ValueError: there is no other run, or its seeds differ.
        """
        if self.compared is None or not self.same_seeds:
            raise ValueError("got no scores of the same seeds, expected those of another run")
        return values_of(self.scores, "dice") - values_of(self.compared, "dice")

    def gain_interval(self, seed: int) -> Interval | None:
        """Return the mean gain in Dice over the other run, None without one; `seed` is that of the draws."""
        if self.compared is None:
            return None
        people = [score.person for score in self.cases]
        if self.same_seeds:
            return bootstrap_interval(self.gains(), people, seed)
        ours, theirs = (values_of(scores, "dice") for scores in (self.scores, self.compared))
        return bootstrap_interval(ours, people, seed, minus=theirs)


def values_of(scores: SeedScores, metric: str) -> Floats:
    """Return a metric, S×N by seed and case."""
    return np.array([[score.metrics[metric] for score in row] for row in scores], np.float64)


def divide(scored: Scored) -> list[Part]:
    """Return the model's cases all together, then by organ if it has several.

    An unseen site is named next to its organ: its cases are never pooled with those of other sites.
    """
    organs = list(dict.fromkeys(score.organ for score in scored.scores[0]))
    if not organs:
        return []
    return [_make_part(scored, organs), *(_make_part(scored, [organ]) for organ in organs if len(organs) > 1)]


def _make_part(scored: Scored, organs: Sequence[str]) -> Part:
    """Return the model's cases of `organs`, in their order."""
    model, compared = scored.model, scored.compared
    return Part(
        label=model.label,
        modality=model.modality,
        organ=_name_organs(organs, model.unseen),
        scores=_filter(scored.scores, lambda score: score.organ in organs),
        compared=None if compared is None else _filter(compared, lambda score: score.organ in organs),
        unseen=model.unseen,
        same_seeds=scored.same_seeds,
    )


def pool(scored: Sequence[Scored]) -> list[Part]:
    """Return the cases of all models of a split together, if there are several models; then those of unseen
    sites.

    Models that share a test set are not pooled, so no case counts twice. There is no comparison unless every
    model has its counterpart in the other run.
    """
    tested = [one for one in scored if one.scores[0]]
    apart = ([one for one in tested if not one.model.unseen], [one for one in tested if one.model.unseen])
    return [_pool(together) for together in apart if len(together) > 1 and _each_once(together)]


def _each_once(scored: Sequence[Scored]) -> bool:
    cases = [(score.dataset, score.case) for one in scored for score in one.scores[0]]
    return len(set(cases)) == len(cases)


def _pool(scored: Sequence[Scored]) -> Part:
    modalities = {one.model.modality for one in scored}
    unseen = ", ".join(dict.fromkeys(one.model.unseen for one in scored if one.model.unseen))
    others = [one.compared for one in scored if one.compared is not None]
    organs = list(dict.fromkeys(case.organ for one in scored for case in one.scores[0]))
    return Part(
        label=POOLED[scored[0].model.split],
        modality=modalities.pop() if len(modalities) == 1 else "",
        organ=_name_organs(organs, unseen),
        scores=_join([one.scores for one in scored]),
        compared=_join(others) if len(others) == len(scored) else None,
        unseen=unseen,
        same_seeds=scored[0].same_seeds,
    )


def _join(together: Sequence[SeedScores]) -> SeedScores:
    """Return the cases of several models together, by seed."""
    return [[case for row in rows for case in row] for rows in zip(*together, strict=True)]


def _name_organs(organs: Sequence[str], unseen: str) -> str:
    name = ALL_ORGANS if len(organs) > 1 else organs[0]
    return f"{name}, {unseen} (unseen)" if unseen else name


def _filter(scores: SeedScores, wanted: Callable[[Score], bool]) -> SeedScores:
    return [[score for score in row if wanted(score)] for row in scores]
