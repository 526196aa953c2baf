"""Tables of scores: a row per model with the metrics of each run; for many runs a row per model and run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flames_cli.report.text_tables import TextTable
from flames_cli.stages.compare.metrics import COLUMNS
from flames_cli.stages.compare.statistics import Mean
from flames_cli.stages.compare.tables import Scores, Tables
from flames_cli.store.evaluations import VolumeScore

MOST_SIDE_BY_SIDE = 2
"""Largest number of runs with columns of their own; more runs have rows of their own."""

Found = Mapping[str, Mapping[tuple[str, ...], Scores]]
"""Scores by metric and line."""


@dataclass(slots=True)
class _Rows:
    """Rows of a table, with the cells to print bold and the rows with a line above."""

    cells: list[list[str]] = field(default_factory=list)
    bold: set[tuple[int, int]] = field(default_factory=set)
    rules: set[int] = field(default_factory=set)

    def add(self, names: Sequence[str], scores: Sequence[Scores | None], runs: Sequence[int]) -> None:
        """Add a row with the metrics of some runs, the best ones bold."""
        row = list(names)
        for run in runs:
            for one in scores:
                if one and run in one.best:
                    self.bold.add((len(self.cells), len(row)))
                row.append(_cell(one, run))
        self.cells.append(row)


def score_grid(
    tables: Tables, table: str, metrics: Sequence[str], runs: Sequence[str], volumes: bool = False
) -> TextTable:
    """Return a table without a title: a row per model, and for each run a column per metric.

    Args:
        tables: all numbers.
        table: clients or server.
        metrics: values of --metric.
        runs: names of the runs.
        volumes: True for the lines of complete volumes only.
    """
    found = _find(tables, table, metrics, volumes)
    lines = {key: one for own in found.values() for key, one in own.items()}
    ordered = sorted(lines.items(), key=lambda item: item[1].line.kind == "all")
    stacked, rows = len(runs) > MOST_SIDE_BY_SIDE, _Rows()
    for key, one in ordered:
        scores = [own.get(key) for own in found.values()]
        if stacked or (one.line.kind == "all" and not rows.rules):
            rows.rules.add(len(rows.cells))
        if stacked:
            for index, run in enumerate(runs):
                name, what, counted = (*_names(one), _counted(one)) if index == 0 else ("", "", "")
                rows.add([name, what, run, counted], scores, [index])
        else:
            rows.add([*_names(one), _counted(one)], scores, range(len(runs)))
    header = _header(table, [_title(next(iter(own.values()))) for own in found.values()], runs)
    bold, rules = frozenset(rows.bold), frozenset(rows.rules - {0})
    return TextTable("", header, rows.cells, 3 if stacked else 2, bold, rules)


def _find(tables: Tables, table: str, metrics: Sequence[str], volumes: bool) -> Found:
    """Return the scores of each metric that has any."""
    found = {
        metric: {
            one.line.id: one
            for one in tables.of(metric, table)
            if not volumes or all(isinstance(score, VolumeScore) for score in one.line.first.facts)
        }
        for metric in metrics
    }
    return {metric: own for metric, own in found.items() if own}


def _header(table: str, titles: Sequence[str], runs: Sequence[str]) -> list[str]:
    names = ["client" if table == "clients" else "model", "images of"]
    if len(runs) > MOST_SIDE_BY_SIDE:
        return [*names, "run", "patients (cases)", *titles]
    prefix = [f"{run}: " for run in runs] if len(runs) > 1 else [""]
    return [*names, "patients (cases)", *(f"{start}{title}" for start in prefix for title in titles)]


def _title(one: Scores) -> str:
    column = COLUMNS[one.column]
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _names(one: Scores) -> tuple[str, str]:
    line = one.line
    label = f"– {line.label}" if line.kind == "part" else line.label
    what = " ".join(part for part in (line.organ, line.modality) if part and part != line.label)
    return label, what


def _counted(one: Scores) -> str:
    made = [mean for mean in one.means if mean]
    patients, cases = max(mean.n_patients for mean in made), max(mean.n for mean in made)
    return f"{patients:,}" if patients == cases else f"{patients:,} ({cases:,})"


def _cell(one: Scores | None, run: int) -> str:
    mean = one.means[run] if one else None
    return "none" if one is None or mean is None else interval_text(mean, one.column)


def interval_text(mean: Mean, column: str) -> str:
    """Return a mean with its interval, such as `0.57 [0.50, 0.63]`."""
    kind = COLUMNS[column]
    digits = min(kind.digits, 2)
    shown = [f"{kind.scale * value:.{digits}f}" for value in (mean.mean, mean.low, mean.high)]
    return shown[0] if math.isnan(mean.low) else f"{shown[0]} [{shown[1]}, {shown[2]}]"
