"""Content of a comparison: means, differences and fairness of every metric, for every line of the tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flames_cli.stages.compare.lines import Line, Pools, divide_by, make_lines
from flames_cli.stages.compare.metrics import COLUMNS, OPTIONS, without_penalty
from flames_cli.stages.compare.statistics import (
    Difference,
    Fairness,
    Mean,
    average,
    average_patients,
    compare_samples,
    correct,
    measure_fairness,
)
from flames_cli.stages.evaluate.parts import has_lesion


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric on the cases of one line, for all runs."""

    line: Line
    option: str
    """Value of --metric."""
    column: str
    """Name of the metric in the CSVs, one of COLUMNS."""
    means: tuple[Mean | None, ...]
    """Mean of each run: over cases, or over patients on the line of all patients."""
    differences: tuple[Difference | None, ...]
    """Differences of the second and every later run to the first."""

    @property
    def best(self) -> set[int]:
        """Indices of the runs with the best mean, as it is shown; empty if there is one run only."""
        return find_best([one.mean if one else None for one in self.means], self.column)


@dataclass(frozen=True, slots=True)
class Spread:
    """Fairness of every run in one metric, over the clients that all runs have."""

    option: str
    column: str
    runs: tuple[Fairness | None, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """All numbers of a comparison."""

    scores: list[Scores]
    """Every line with every metric, and distances also without a penalty."""
    spreads: list[Spread]
    families: dict[str, int] = field(default_factory=dict)
    """Number of comparisons of the chosen metric that Holm's correction is over, by family."""

    def of(self, option: str, table: str, penalised: bool = True) -> list[Scores]:
        """Return the lines of a table in one metric."""
        return [
            one
            for one in self.scores
            if one.option == option
            and one.line.table == table
            and (one.column in OPTIONS[option]) == penalised
        ]

    def spread(self, option: str) -> Spread | None:
        """Return the fairness in one metric; None if clients have no common unit."""
        return next(
            (one for one in self.spreads if one.option == option and one.column in OPTIONS[option]), None
        )

    @property
    def tables(self) -> list[str]:
        """Names of the tables."""
        return list(dict.fromkeys(one.line.table for one in self.scores))


def find_best(means: Sequence[float | None], column: str) -> set[int]:
    """Return the indices of the best means, which are shown with the same digits; empty if all are equal."""
    kind = COLUMNS[column]
    known = {index: mean for index, mean in enumerate(means) if mean is not None and not math.isnan(mean)}
    if len(known) < 2:
        return set()
    best = (max if kind.higher_is_better else min)(known.values())
    found = {index for index, mean in known.items() if kind.shown(mean) == kind.shown(best)}
    return found if len(found) < len(known) else set()


def make_tables(
    pools: Pools, by: str | None, metric: str, seed: int, options: Sequence[str] = tuple(OPTIONS)
) -> Tables:
    """Return the numbers of a comparison, by default of all metrics.

    Args:
        pools: samples of every run by test set; the first run is the reference.
        by: column by whose values the cases are also divided.
        metric: value of --metric, whose numbers of comparisons are counted.
        seed: seed of the draws of intervals and tests.
        options: metrics, values of --metric.

    Raises:
        FlamesError: no case has the column `by`.
    """
    lines = [*make_lines(pools), *(divide_by(pools, by) if by else ())]
    scores, spreads = [], []
    for option in options:
        for table in dict.fromkeys(line.table for line in lines):
            some = [line for line in lines if line.table == table]
            made = [_score(line, option, column, seed) for line, column in choose_columns(some, option)]
            kept = [one for one in made if any(one.means)]
            scores += kept
            spreads += _spreads(kept, option) if table == "clients" else []
    scores = _correct(scores)
    return Tables(scores, spreads, _count_families(scores, metric))


def choose_columns(lines: Sequence[Line], option: str) -> Iterator[tuple[Line, str]]:
    """Yield each line with the column of its metric, then distances also without the penalty.

    All lines have the same unit if their cases have one in common, else each line the first that it has.
    """
    names = OPTIONS[option]
    common = next((name for name in names if all(_has(line, name) for line in lines)), None)
    for line in lines:
        column = common or next((name for name in names if _has(line, name)), None)
        if column is None and len(names) == 1:
            column = names[0]
        if column is not None:
            yield line, column
            if without_penalty(column) != column:
                yield line, without_penalty(column)


def _has(line: Line, column: str) -> bool:
    """Return whether all cases with a lesion have the metric, in all runs."""
    found = COLUMNS[column]
    scores = (score for sample in line.samples if sample for score in sample.facts if has_lesion(score))
    return all(found.value(score) is not None for score in scores)


def _score(line: Line, option: str, column: str, seed: int) -> Scores:
    found = COLUMNS[column]
    mean = average_patients if line.kind == "all" else average
    reference, *others = line.samples
    return Scores(
        line,
        option,
        column,
        tuple(mean(sample, found, seed) if sample else None for sample in line.samples),
        tuple(
            compare_samples(sample, reference, found, seed) if sample and reference else None
            for sample in others
        ),
    )


def _spreads(scores: Sequence[Scores], option: str) -> list[Spread]:
    """Return the fairness over the clients that all runs have, if these have one unit."""
    found = []
    models = [one for one in scores if one.line.kind == "model"]
    for penalised in (True, False):
        some = [one for one in models if (one.column in OPTIONS[option]) == penalised and all(one.means)]
        columns = {one.column for one in some}
        if len(columns) == 1:
            column = columns.pop()
            n_runs = len(some[0].means)
            runs = tuple(
                measure_fairness(
                    {one.line.label: mean for one in some if (mean := one.means[index])},
                    COLUMNS[column].higher_is_better,
                )
                for index in range(n_runs)
            )
            found.append(Spread(option, column, runs))
    return found


def family_of(one: Scores) -> str:
    """Return the name of the family of comparisons: all patients, single models, or values of a column."""
    if one.line.headline:
        return "all patients"
    return "values" if one.line.kind == "value" else "single models"


def _correct(scores: Sequence[Scores]) -> list[Scores]:
    """Return the scores with Holm's correction within each family of each metric."""
    families: dict[tuple[str, bool, str], list[int]] = {}
    for index, one in enumerate(scores):
        penalised = one.column in OPTIONS[one.option]
        families.setdefault((one.option, penalised, family_of(one)), []).append(index)
    corrected = list(scores)
    for places in families.values():
        flat = iter(correct([difference for place in places for difference in scores[place].differences]))
        for place in places:
            one = scores[place]
            new = tuple(next(flat) for _ in one.differences)
            corrected[place] = Scores(one.line, one.option, one.column, one.means, new)
    return corrected


def _count_families(scores: Sequence[Scores], metric: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in scores:
        if one.option == metric and one.column in OPTIONS[metric]:
            made = sum(difference is not None for difference in one.differences)
            counts[family_of(one)] = counts.get(family_of(one), 0) + made
    return counts


def missing_models(lines: Sequence[Line], runs: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the labels of the models that a run does not have, by run; runs with all models are left out."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.kind == "model":
            for run, sample in zip(runs, line.samples, strict=True):
                if sample is None:
                    found.setdefault(run, []).append(line.label)
    return found
