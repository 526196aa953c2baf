"""Scores of one run, pooled over seeds and folds: a matrix for each row of a table. N cases or volumes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.errors import FlamesError
from flames_cli.stages.compare.metrics import Column, Score
from flames_cli.stages.evaluate.parts import Part, pool_runs
from flames_cli.store.evaluations import CaseScore, VolumeScore

Protocol: TypeAlias = Literal["auto", "slices", "volumes"]
Unit: TypeAlias = tuple[str, str]
"""Data set and name of a case or volume that has one value."""
Replicate: TypeAlias = tuple[int, int | None]
"""Seed and fold of models that were tested on the same cases; no fold where the folds' cases are pooled."""


@dataclass(frozen=True, slots=True)
class Key:
    """Test set of one model: a row of a table, with the same key in all runs."""

    split: str
    name: str
    """Name of the client, or modality of the server model."""
    modality: str
    unseen_site: str = ""
    """The site of all cases, if no client has trained on cases from it; else empty."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Scores of one run's model on its test set."""

    replicates: tuple[Replicate, ...]
    units: tuple[Unit, ...]
    scores: tuple[tuple[tuple[Score, ...], ...], ...]
    """Scores by replicate and unit; more than one if several models share the test set, such as the clients'
    models of `local` on the server's: their values are averaged."""

    @property
    def facts(self) -> list[Score]:
        """The facts of each unit, which do not depend on the model."""
        return [models[0] for models in self.scores[0]] if self.scores else []

    @property
    def people(self) -> list[str]:
        """The patient of each unit, by a name that is unique over all data sets."""
        return [score.person for score in self.facts]

    def only(self, wanted: Callable[[Score], bool]) -> "Sample":
        """Return the sample with the units whose facts are wanted."""
        return self.take([index for index, score in enumerate(self.facts) if wanted(score)])

    def take(self, kept: Sequence[int]) -> "Sample":
        """Return the sample with the units of these indices, in their order."""
        return replace(
            self,
            units=tuple(self.units[index] for index in kept),
            scores=tuple(tuple(row[index] for index in kept) for row in self.scores),
        )

    def values(self, column: Column) -> Floats:
        """Return a metric, S×N by replicate and unit: NaN where it is not known, infinite for a missed
        case."""
        rows = [[_mean(column, models) for models in row] for row in self.scores]
        return np.array(rows, np.float64).reshape(len(self.scores), len(self.units))


def _mean(column: Column, models: Sequence[Score]) -> float:
    values = [column.value(score) for score in models]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else math.nan


def choose_scores(
    cases: Sequence[CaseScore], volumes: Sequence[VolumeScore], protocol: Protocol, run: str
) -> list[Score]:
    """Return the scores that count one each: volumes and still images, or the selected images.

    With `auto`, the selected slices of a volume that is not complete count one each.

    Raises:
        FlamesError: `volumes` is asked for, and slices of a volume are missing.
    """
    if protocol == "slices":
        return [score for score in cases if score.selected]
    complete = {(volume.dataset, volume.volume) for volume in volumes}
    images = [score for score in cases if not score.volume]
    others = [
        score
        for score in cases
        if score.volume and score.selected and (score.dataset, score.volume) not in complete
    ]
    if others and protocol == "volumes":
        raise FlamesError(
            f"got --protocol volumes, and the test sets of run '{run}' have slices of "
            f"{len({(score.dataset, score.volume) for score in others})} volumes that are not complete; run "
            "`flames preprocess` and the later stages again, or pass --protocol slices"
        )
    return [*volumes, *images, *others]


def pool_scores(scores: Iterable[Score]) -> dict[Key, Sample]:
    """Return the sample of each test set of a run or a family, in the order of the first scores.

    Seeds and folds are pooled as in `flames evaluate`. Where several models share a test set of the server,
    such as the clients' models of `local`, one with the name of the modality counts alone.
    """
    listed = [*scores]
    parts: list[Part[Any]] = [
        *pool_runs(score for score in listed if isinstance(score, VolumeScore)),
        *pool_runs(score for score in listed if isinstance(score, CaseScore)),
    ]
    by_key: dict[Key, dict[str, list[Sample]]] = {}
    for part in parts:
        name = part.label if part.split == "client_test" else part.modality
        key = Key(part.split, name, part.modality, part.unseen)
        by_key.setdefault(key, {}).setdefault(part.label, []).append(_sample(part.scores))
    order = list(dict.fromkeys((score.split, score.model) for score in listed))
    models = {key: {label: join(some) for label, some in found.items()} for key, found in by_key.items()}
    keys = sorted(models, key=lambda key: min(order.index((key.split, label)) for label in models[key]))
    return {key: _merge(models[key].get(key.name), [*models[key].values()]) for key in keys}


def _sample(rows: Sequence[Sequence[CaseScore]] | Sequence[Sequence[VolumeScore]]) -> Sample:
    """Return the scores of one model, whose rows have the same cases in the same order."""
    folds = rows[0][0].split == "server_test" if rows[0] else False
    return Sample(
        tuple((row[0].seed, row[0].fold if folds else None) for row in rows if row),
        tuple((score.dataset, _name_of(score)) for score in rows[0]),
        tuple(tuple((score,) for score in row) for row in rows if row),
    )


def _name_of(score: Score) -> str:
    return score.volume if isinstance(score, VolumeScore) else score.case


def _merge(own: Sample | None, models: Sequence[Sample]) -> Sample:
    """Return the model with the name of the modality, else all models with their scores side by side."""
    if own is not None or len(models) == 1:
        return own or models[0]
    first = models[0]
    if any((one.replicates, one.units) != (first.replicates, first.units) for one in models):
        raise ValueError("got models with other cases, expected those of one test set")
    together = (zip(*rows, strict=True) for rows in zip(*(one.scores for one in models), strict=True))
    return replace(
        first,
        scores=tuple(tuple(tuple(score for (score,) in cell) for cell in row) for row in together),
    )


def join(samples: Sequence[Sample]) -> Sample:
    """Return the units of several test sets of a run together, for the replicates that all of them have."""
    tables = [dict(zip(sample.replicates, sample.scores, strict=True)) for sample in samples]
    shared = [one for one in samples[0].replicates if all(one in table for table in tables)]
    return Sample(
        tuple(shared),
        tuple(unit for sample in samples for unit in sample.units),
        tuple(tuple(models for table in tables for models in table[one]) for one in shared),
    )
