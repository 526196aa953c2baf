"""Scores of one run, pooled over seeds and folds: a matrix for each row of a table. N cases or volumes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.errors import FlamesError
from flames_cli.stages.compare.metrics import Column, Score
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

    A client's cases are the union over the folds of a seed. The server's test sets are the same in all folds:
    the models of each fold are a replicate, as those of each seed.
    """
    by_key: dict[Key, dict[str, list[Score]]] = {}
    for score in scores:
        by_client = score.split == "client_test"
        key = Key(
            score.split,
            score.model if by_client else score.modality,
            score.modality,
            score.unseen_site,
        )
        by_key.setdefault(key, {}).setdefault(score.model, []).append(score)
    return {key: _pool(key, by_model) for key, by_model in by_key.items()}


def _pool(key: Key, by_model: dict[str, list[Score]]) -> Sample:
    # A model with the name of the modality is the server's; else there are several, such as one per client.
    models = [by_model[key.name]] if key.name in by_model else list(by_model.values())
    rows = [_by_replicate(scores) for scores in models]
    replicates = [one for one in rows[0] if all(one in row for row in rows)]
    tables = [row[one] for one in replicates for row in rows]
    units = [unit for unit in tables[0] if all(unit in table for table in tables)] if tables else []
    return Sample(
        tuple(replicates),
        tuple(units),
        tuple(tuple(tuple(row[one][unit] for row in rows) for unit in units) for one in replicates),
    )


def _by_replicate(scores: Iterable[Score]) -> dict[Replicate, dict[Unit, Score]]:
    found: dict[Replicate, dict[Unit, Score]] = {}
    for score in scores:
        fold = None if score.split == "client_test" else score.fold
        name = score.volume if isinstance(score, VolumeScore) else score.case
        found.setdefault((score.seed, fold), {})[score.dataset, name] = score
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or 0)))


def join(samples: Sequence[Sample]) -> Sample:
    """Return the units of several test sets of a run together, for the replicates that all of them have."""
    tables = [dict(zip(sample.replicates, sample.scores, strict=True)) for sample in samples]
    shared = [one for one in samples[0].replicates if all(one in table for table in tables)]
    return Sample(
        tuple(shared),
        tuple(unit for sample in samples for unit in sample.units),
        tuple(tuple(models for table in tables for models in table[one]) for one in shared),
    )
