"""Statistics of a comparison: means of each run, paired differences to the reference, and fairness.

S replicates (seeds, and folds on the server's test sets), N cases or volumes, P patients.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.core.scores.comparisons import PairedComparison, compare_pairs, holm
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.compare.metrics import Column
from flames_cli.stages.compare.samples import Sample


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of one metric over the cases of a test set and over replicates."""

    mean: float
    sd: float
    """Standard deviation over cases; over the replicates' means if there are several."""
    n: int
    """Number of cases that have a value; of the replicate with the fewest."""
    n_missed: int
    """Number of cases that were left out because a mask is empty; of the replicate with the most."""
    n_patients: int
    by_replicate: tuple[float, ...]
    low: float = math.nan
    """Lower 95 % limit over patients and replicates; NaN if cases were left out, or with one patient."""
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of one metric: a run minus the reference."""

    mean: float
    """Mean over patients and replicates; each patient counts once."""
    low: float
    high: float
    n: int
    """Number of cases that have a value in both runs, in all replicates."""
    test: PairedComparison
    """Tests over the patients' differences, which are averaged over replicates before."""
    same_replicates: bool
    """True if each replicate has its counterpart; else the replicates of each run are drawn separately."""
    p_permutation_holm: float = math.nan
    p_wilcoxon_holm: float = math.nan


@dataclass(frozen=True, slots=True)
class Fairness:
    """Spread of one run's means over the clients that all runs have."""

    n_clients: int
    mean: float
    """Mean over clients; each client counts once."""
    sd: float
    """Standard deviation (n - 1) of the clients' means."""
    range: float
    worst: float
    worst_client: str
    by_replicate: tuple[float, ...]
    """Mean over clients of each replicate."""

    @property
    def sd_of_replicates(self) -> float:
        """Standard deviation (n - 1) of the replicates' means over clients; NaN with one replicate."""
        return float(np.std(self.by_replicate, ddof=1)) if len(self.by_replicate) > 1 else math.nan


def average(sample: Sample, column: Column, seed: int) -> Mean | None:
    """Return the mean of a metric over cases; None if no case has a value. `seed` is that of the draws."""
    values, people = _known(sample.values(column), sample.people)
    return _summarise(values, people, seed)


def average_patients(sample: Sample, column: Column, seed: int) -> Mean | None:
    """Return the mean over patients, each of whom counts once; None if no case has a value."""
    values, people = _known(sample.values(column), sample.people)
    finite = np.isfinite(values).all(axis=0)
    per_patient, names = mean_by_patient(values[:, finite], _select(people, finite))
    found = _summarise(per_patient, names, seed)
    return replace(found, n=int(finite.sum()), n_missed=int((~finite).sum())) if found else None


def _summarise(values: Floats, people: Sequence[str], seed: int) -> Mean | None:
    if not np.isfinite(values).any():
        return None
    over = summarise_seeds(values)
    low = high = math.nan
    if np.isfinite(values).all():
        interval = bootstrap_interval(values, people, seed)
        low, high = interval.low, interval.high
    finite = np.isfinite(values).any(axis=0)
    return Mean(
        over.mean,
        over.sd,
        over.n,
        over.n_infinite,
        len(set(_select(people, finite))),
        tuple(summarise_seeds([row]).mean for row in values),
        low,
        high,
    )


def compare_samples(ours: Sample, reference: Sample, column: Column, seed: int) -> Difference | None:
    """Return the difference of the means over patients, paired case by case; None without a common case.

    Cases count if both runs have a finite value in all replicates. `seed` is that of the draws.
    """
    ours, reference = common_units(ours, reference)
    if ours.replicates and len(ours.replicates) == len(reference.replicates) == 1:
        same = True
    else:
        same = ours.replicates == reference.replicates
    mine, theirs = ours.values(column), reference.values(column)
    kept = np.isfinite(mine).all(axis=0) & np.isfinite(theirs).all(axis=0)
    people = _select(ours.people, kept)
    if not people:
        return None
    mine, names = mean_by_patient(mine[:, kept], people)
    theirs, _ = mean_by_patient(theirs[:, kept], people)
    interval = (
        bootstrap_interval(mine - theirs, names, seed)
        if same
        else bootstrap_interval(mine, names, seed, minus=theirs)
    )
    test = compare_pairs(mine.mean(axis=0) - theirs.mean(axis=0), seed)
    return Difference(interval.mean, interval.low, interval.high, len(people), test, same)


def common_units(ours: Sample, theirs: Sample) -> tuple[Sample, Sample]:
    """Return both samples with the units that both have, in the order of `theirs`."""
    place = {unit: index for index, unit in enumerate(ours.units)}
    shared = [index for index, unit in enumerate(theirs.units) if unit in place]
    return ours.take([place[theirs.units[index]] for index in shared]), theirs.take(shared)


def mean_by_patient(values: Floats, people: Sequence[str]) -> tuple[Floats, list[str]]:
    """Return the mean over each patient's cases, S×P, and the patients in the order of their names."""
    names, person = np.unique(np.asarray(people, np.str_), return_inverse=True)
    sums = np.zeros((len(values), names.size))
    for row, own in zip(values, sums, strict=True):
        np.add.at(own, person, row)
    return sums / np.maximum(1, np.bincount(person, minlength=names.size)), [str(name) for name in names]


def correct(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Return the differences of one family of comparisons, with Holm's correction of both p values."""
    made = [one for one in differences if one is not None]
    permutation = iter(holm([one.test.p_permutation for one in made]))
    wilcoxon = iter(holm([one.test.p_wilcoxon for one in made]))
    return [
        None
        if one is None
        else replace(one, p_permutation_holm=next(permutation), p_wilcoxon_holm=next(wilcoxon))
        for one in differences
    ]


def measure_fairness(means: Mapping[str, Mean], higher_is_better: bool) -> Fairness | None:
    """Return the spread of the clients' means, each client with equal weight; None without a client."""
    if not means:
        return None
    values = {name: one.mean for name, one in means.items()}
    worst = (min if higher_is_better else max)(values, key=lambda name: values[name])
    numbers = np.array(list(values.values()))
    n_replicates = min(len(one.by_replicate) for one in means.values())
    by_replicate = np.array([one.by_replicate[:n_replicates] for one in means.values()]).mean(axis=0)
    return Fairness(
        n_clients=len(values),
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if len(values) > 1 else math.nan,
        range=float(np.ptp(numbers)),
        worst=values[worst],
        worst_client=worst,
        by_replicate=tuple(float(one) for one in by_replicate),
    )


def _known(values: Floats, people: Sequence[str]) -> tuple[Floats, list[str]]:
    """Return the values of the cases for which the metric is known in all replicates."""
    kept = ~np.isnan(values).any(axis=0)
    return values[:, kept], _select(people, kept)


def _select(people: Sequence[str], kept: Any) -> list[str]:
    """Return the `people` whose place in the array `kept` is True."""
    return [person for person, wanted in zip(people, kept, strict=True) if wanted]
