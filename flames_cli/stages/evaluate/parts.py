"""Parts: scores of cases.csv or volumes.csv, pooled over seeds and folds and divided into the lines of the
tables: by model, organ, data set and site."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.store.evaluations import UNSEEN_KINDS, CaseScore, VolumeScore, name_unseen, unseen_kind

ALL_ORGANS = "all organs"
POOLED = {"client_test": "all clients", "server_test": "all models"}
"""Label of the line of all models together, by split; a client's name cannot contain a space."""

ScoreT = TypeVar("ScoreT", CaseScore, VolumeScore)
_RowKey = tuple[int, int]
"""Seed, and fold if each fold is a row of its own, else 0."""


@dataclass(frozen=True, slots=True)
class Part(Generic[ScoreT]):
    """Cases (images or volumes) of one line of a table."""

    split: str
    label: str
    """Name of the client or server model, or of all together."""
    modality: str
    """Empty if models of several modalities are pooled."""
    organ: str
    scores: Sequence[Sequence[ScoreT]]
    """Scores of the same cases, in the same order, by seed (for server models by seed and fold)."""
    dataset: str = ""
    """The data set, if the line is of one of several data sets of an organ."""
    site: str = ""
    """The site, if the line is of one site."""
    unseen: str = ""
    """The unseen sites of the cases, which no client has trained on, UNSEEN_ORGAN or UNSEEN_MODALITY; else
    empty."""

    @property
    def cases(self) -> Sequence[ScoreT]:
        """The cases of the part, with the scores of the first seed."""
        return self.scores[0]

    @property
    def people(self) -> list[str]:
        """The patient of each case."""
        return [score.person for score in self.cases]

    def only(self, wanted: Callable[[ScoreT], bool]) -> "Part[ScoreT]":
        """Return the part with the wanted cases only; `wanted` must not depend on the seed."""
        return replace(self, scores=[[score for score in row if wanted(score)] for row in self.scores])


def values_of(part: Part[ScoreT], metric: str) -> list[list[float]]:
    """Return a metric by seed and case, without the cases for which it is not defined."""
    rows = ([getattr(score, metric) for score in row] for row in part.scores)
    return [[float(value) for value in row if value is not None] for row in rows]


def matrix_of(part: Part[ScoreT], metric: str) -> Floats:
    """Return a metric that is always defined, S×N by seed and case."""
    return np.array(values_of(part, metric), np.float64).reshape(len(part.scores), -1)


def has_lesion(score: CaseScore | VolumeScore) -> bool:
    """Return whether the true mask has tumour."""
    return score.tp + score.fn > 0


def pool_runs(scores: Iterable[ScoreT]) -> list[Part[ScoreT]]:
    """Return one part for each model and test set, with the scores of all runs.

    Runs of several seeds are rows of the same cases. With several folds, a client's cases are those of all
    folds together, since each fold tests other patients; the server's test patients are the same in every
    fold, so each fold is a row of its own, as a seed is. A model that some seeds do not have is left out, and
    so are cases that some seeds do not have.
    """
    models: dict[tuple[str, ...], dict[_RowKey, dict[Hashable, ScoreT]]] = {}
    runs: dict[str, set[_RowKey]] = {}
    for score in scores:
        row = (score.seed, 0 if score.split == "client_test" else score.fold or 0)
        key = score.split, score.model, score.modality, score.unseen_site
        runs.setdefault(score.split, set()).add(row)
        models.setdefault(key, {}).setdefault(row, {})[_unit(score)] = score
    order = list(dict.fromkeys(key[:3] for key in models))
    listed = sorted(models.items(), key=lambda item: order.index(item[0][:3]))
    return [_align(key, rows) for key, rows in listed if len(rows) == len(runs[key[0]])]


def _unit(score: CaseScore | VolumeScore) -> Hashable:
    return score.dataset, score.case if isinstance(score, CaseScore) else score.volume


def _align(key: tuple[str, ...], rows: dict[_RowKey, dict[Hashable, ScoreT]]) -> Part[ScoreT]:
    first, *others = (rows[row] for row in sorted(rows))
    common = [unit for unit in first if all(unit in row for row in others)]
    return Part(
        split=key[0],
        label=key[1],
        modality=key[2],
        organ=name_organs([row.organ for row in first.values()], key[3]),
        scores=[[row[unit] for unit in common] for row in (first, *others)],
        unseen=key[3],
    )


def divide(model: Part[ScoreT]) -> list[Part[ScoreT]]:
    """Return the model's cases all together; by organ if it has several; and by data set where an organ has
    several.

    An unseen site is named next to its organ: its cases are never pooled with those of other sites.
    """
    if not model.cases:
        return []
    organs = list(dict.fromkeys(score.organ for score in model.cases))
    parts = [model]
    for organ in organs:
        own = _only_organ(model, organ)
        parts += [own] if len(organs) > 1 else []
        datasets = list(dict.fromkeys(score.dataset for score in own.cases))
        parts += [_only_dataset(own, dataset) for dataset in datasets if len(datasets) > 1]
    return parts


def _only_organ(model: Part[ScoreT], organ: str) -> Part[ScoreT]:
    return replace(model.only(lambda score: score.organ == organ), organ=name_organs([organ], model.unseen))


def _only_dataset(part: Part[ScoreT], dataset: str) -> Part[ScoreT]:
    return replace(part.only(lambda score: score.dataset == dataset), dataset=dataset)


def divide_by_site(model: Part[ScoreT]) -> list[Part[ScoreT]]:
    """Return the model's cases by site; empty if no case names its site."""
    sites = list(dict.fromkeys(score.site for score in model.cases if score.site))
    return [_only_site(model, site) for site in sorted(sites)]


def _only_site(model: Part[ScoreT], site: str) -> Part[ScoreT]:
    return replace(model.only(lambda score: score.site == site), site=site)


def pool(models: Sequence[Part[ScoreT]]) -> list[Part[ScoreT]]:
    """Return the cases of all models of a split together, if there are several models; then those of unseen
    sites.

    Models that share a test set are not pooled, so no case counts twice.
    """
    tested = [model for model in models if model.cases]
    apart = ([one for one in tested if unseen_kind(one.unseen) == kind] for kind in UNSEEN_KINDS)
    return [_pool(together) for together in apart if len(together) > 1 and _each_once(together)]


def _each_once(models: Sequence[Part[ScoreT]]) -> bool:
    cases = [_unit(score) for model in models for score in model.cases]
    return len(set(cases)) == len(cases)


def _pool(models: Sequence[Part[ScoreT]]) -> Part[ScoreT]:
    modalities = {model.modality for model in models}
    unseen = ", ".join(dict.fromkeys(model.unseen for model in models if model.unseen))
    return Part(
        split=models[0].split,
        label=POOLED[models[0].split],
        modality=modalities.pop() if len(modalities) == 1 else "",
        organ=name_organs([score.organ for model in models for score in model.cases], unseen),
        scores=[
            [score for row in rows for score in row]
            for rows in zip(*(model.scores for model in models), strict=True)
        ],
        unseen=unseen,
    )


def name_organs(organs: Iterable[str], unseen: str) -> str:
    """Return the organ, or ALL_ORGANS if there are several, with the unseen site if it is one."""
    different = list(dict.fromkeys(organs))
    name = ALL_ORGANS if len(different) > 1 else different[0]
    return name_unseen(name, unseen) if unseen_kind(unseen) == "unseen sites" else name
