"""Files of `flames compare`: comparison.json, all numbers as CSV, and tables as CSV, Markdown and LaTeX."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.core.scores.intervals import DRAWS, LEVEL
from flames_cli.errors import FlamesError
from flames_cli.report.text_tables import TextTable, to_latex, to_markdown
from flames_cli.stages.compare.grids import difference_table, mean_table
from flames_cli.stages.compare.lines import Line
from flames_cli.stages.compare.notes import notes_of
from flames_cli.stages.compare.statistics import Difference, Fairness, Mean
from flames_cli.stages.compare.tables import Scores, Tables, family_of
from flames_cli.store.evaluations import METRIC_FACTS, EvaluationFile
from flames_cli.store.files.aside import keep_others, set_aside
from flames_cli.store.files.atomic import finite, replacing_folder, write_csv, write_json, write_text
from flames_cli.store.files.locks import in_turn
from flames_cli.store.schema import COMPARISON, check_stamp, read_json, stamp

SUMMARY = "comparison.json"
TABLES = ("means", "differences", "fairness")
"""Names of the tables with all numbers."""
LINE_COLUMNS = ("table", "kind", "label", "modality", "organ", "dataset", "unseen_site")
MEAN_COLUMNS = ("n", "n_patients", "n_missed", "replicates", "mean", "sd", "low", "high")
DIFFERENCE_COLUMNS = (
    *("n", "n_patients", "difference", "low", "high", "p_permutation", "p_permutation_holm"),
    *("p_wilcoxon", "p_wilcoxon_holm", "family", "rank_biserial", "cohens_dz", "exact", "same_replicates"),
)
FAIRNESS_COLUMNS = ("clients", "mean", "sd_of_replicates", "sd", "range", "worst_client", "worst")


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of a comparison with their numbers."""

    name: str
    folder: Path
    evaluations: tuple[EvaluationFile, ...]
    """Evaluation of every run; the first is the reference."""
    tables: Tables
    metrics: tuple[str, ...] = ("dice",)
    """Metrics of the shown tables, values of --metric."""
    protocol: str = "auto"
    by: str | None = None
    seed: int = 0
    evaluated: tuple[str, ...] = ()
    """Runs that were evaluated by this call."""
    notes: tuple[str, ...] = ()
    """Sentences about runs that differ in more than their name."""
    aside: Path | None = field(default=None)
    """New path of an earlier comparison of other evaluations, if there was one."""

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [one.run for one in self.evaluations]


def write_comparison(result: Comparison, draw: Callable[[Comparison], None]) -> Comparison:
    """Write the folder of the comparison, with the pictures that `draw` adds; it takes its place in one step.

    An earlier comparison of the same evaluations has the same numbers: it is replaced, and its tables of
    other metrics are kept. One of other evaluations is renamed.

    Returns:
        The comparison, with the new path of an earlier one of other evaluations.
    """
    folder, aside = result.folder, None
    with in_turn(folder):
        same = _is_of_same_evaluations(result)
        with replacing_folder(folder) as new:
            made = replace(result, folder=new)
            _write_tables(made)
            draw(made)
            write_json(new / SUMMARY, finite(comparison_json(made)))
            if same:
                keep_others(folder, new)
            else:
                aside = set_aside(folder)
    return replace(result, aside=aside)


def _write_tables(result: Comparison) -> None:
    folder, runs, tables = result.folder, result.runs, result.tables
    for name in TABLES:
        write_csv(folder / f"{name}.csv", *_table(result, name))
    for option in result.metrics:
        for table in tables.tables:
            if scores := tables.of(option, table):
                write_csv(folder / f"{table}-{option}.csv", *_wide(scores, runs))
                _write_text_table(
                    folder / f"{table}-{option}", mean_table(tables, option, table, runs, True), result
                )
        differences = [one for table in tables.tables for one in tables.of(option, table)]
        if len(runs) > 1 and differences:
            shown = difference_table(differences, runs, detail=True)
            _write_text_table(folder / f"differences-{option}", shown, result)


def _table(result: Comparison, name: str) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of one of TABLES."""
    match name:
        case "means":
            return ["metric", *LINE_COLUMNS, "run", *MEAN_COLUMNS], [*_mean_rows(result)]
        case "differences":
            header = ["metric", *LINE_COLUMNS, "run", "reference", *DIFFERENCE_COLUMNS]
            return header, [*_difference_rows(result)]
        case _:
            return ["metric", "run", *FAIRNESS_COLUMNS], [*_fairness_rows(result)]


def records(result: Comparison, name: str) -> list[dict[str, Any]]:
    """Return the rows of one of TABLES by column; a number that is not defined is None."""
    header, rows = _table(result, name)
    numbers = {*MEAN_COLUMNS, *DIFFERENCE_COLUMNS, *FAIRNESS_COLUMNS} - {"family", "worst_client"}
    return [
        {
            column: None if column in numbers and cell == "" else cell
            for column, cell in zip(header, row, strict=True)
        }
        for row in rows
    ]


def _is_of_same_evaluations(result: Comparison) -> bool:
    """Return whether the folder is free, or has a comparison of the same models on the same data."""
    if not result.folder.exists():
        return True
    try:
        before = read_json(result.folder / SUMMARY, COMPARISON)
        check_stamp(before, COMPARISON, result.folder / SUMMARY)
    except FlamesError:  # an incomplete one, or one of another release
        return not any(result.folder.iterdir())
    return all(before.get(key) == value for key, value in _identity(result).items())


def _identity(result: Comparison) -> dict[str, Any]:
    """Return what makes a comparison another one: its models, their tests, and the rules of the numbers."""
    found: dict[str, Any] = finite(
        {
            "protocol": result.protocol,
            "by": result.by,
            "seed": result.seed,
            "runs": [_run_json(one) for one in result.evaluations],
        }
    )
    return found


def _run_json(evaluation: EvaluationFile) -> dict[str, Any]:
    # Metrics of plug-ins change no other number.
    options = {
        name: value for name, value in evaluation.options.items() if name not in ("round", METRIC_FACTS)
    }
    members = [
        {
            **{name: getattr(run, name) for name in ("name", "strategy", "seed", "fold", "round")},
            "partition_sha256": run.partition_sha256,
            "checkpoint": run.checkpoint,
        }
        for run in evaluation.runs
    ]
    return {"name": evaluation.run, "evaluation": evaluation.name, "options": options, "members": members}


def comparison_json(result: Comparison) -> dict[str, Any]:
    """Return the content of comparison.json."""
    by_line: dict[tuple[str, ...], list[Scores]] = {}
    for one in result.tables.scores:
        by_line.setdefault(one.line.id, []).append(one)
    tables: dict[str, list[Any]] = {}
    for scores in by_line.values():
        tables.setdefault(scores[0].line.table, []).append(_line_json(scores, result.runs))
    return {
        **stamp(COMPARISON),
        "flames": __version__,
        "name": result.name,
        "reference": result.runs[0],
        "metrics": list(result.metrics),
        **_identity(result),
        "interval": {"level": LEVEL, "draws": DRAWS},
        "comparisons": dict(result.tables.families),
        "tables": tables,
        "fairness": {
            one.column: {
                run: asdict(found) if found else None
                for run, found in zip(result.runs, one.runs, strict=True)
            }
            for one in result.tables.spreads
        },
        "notes": [*notes_of(result)],
    }


def _line_json(scores: Sequence[Scores], runs: Sequence[str]) -> dict[str, Any]:
    line = scores[0].line
    return {
        **{name: getattr(line, name) for name in LINE_COLUMNS if name != "table"},
        "metrics": {
            one.column: {
                "means": {
                    run: asdict(mean) if mean else None for run, mean in zip(runs, one.means, strict=True)
                },
                "differences": {
                    run: asdict(made) if made else None
                    for run, made in zip(runs[1:], one.differences, strict=True)
                },
            }
            for one in scores
        },
    }


def _line_cells(line: Line) -> list[object]:
    return [getattr(line, name) for name in LINE_COLUMNS]


def _mean_rows(result: Comparison) -> Iterator[list[object]]:
    for one in result.tables.scores:
        for run, mean in zip(result.runs, one.means, strict=True):
            if mean:
                yield [one.column, *_line_cells(one.line), run, *_mean_cells(mean)]


def _mean_cells(mean: Mean) -> list[object]:
    numbers = (mean.mean, mean.sd, mean.low, mean.high)
    return [
        *(mean.n, mean.n_patients, mean.n_missed, len(mean.by_replicate)),
        *(_number(value) for value in numbers),
    ]


def _difference_rows(result: Comparison) -> Iterator[list[object]]:
    for one in result.tables.scores:
        for run, made in zip(result.runs[1:], one.differences, strict=True):
            if made:
                cells = _difference_cells(made, family_of(one))
                yield [one.column, *_line_cells(one.line), run, result.runs[0], *cells]


def _difference_cells(made: Difference, family: str) -> list[object]:
    test = made.test
    numbers = (made.mean, made.low, made.high, test.p_permutation, made.p_permutation_holm)
    ranks = (test.p_wilcoxon, made.p_wilcoxon_holm)
    return [
        *(made.n, test.n_patients),
        *(_number(value) for value in (*numbers, *ranks)),
        family,
        *(_number(value) for value in (test.rank_biserial, test.cohens_dz)),
        int(test.exact),
        int(made.same_replicates),
    ]


def _fairness_rows(result: Comparison) -> Iterator[list[object]]:
    for one in result.tables.spreads:
        for run, found in zip(result.runs, one.runs, strict=True):
            if found:
                yield [one.column, run, *_fairness_cells(found)]


def _fairness_cells(found: Fairness) -> list[object]:
    spread = (found.sd_of_replicates, found.sd, found.range)
    return [
        found.n_clients,
        found.mean,
        *(_number(value) for value in spread),
        found.worst_client,
        found.worst,
    ]


def _number(value: float) -> object:
    """Return the cell of a number; empty for NaN."""
    return "" if math.isnan(value) else value


def _wide(scores: Sequence[Scores], runs: Sequence[str]) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of a table with a column per run."""
    header = ["metric", *LINE_COLUMNS, "n_patients", *runs]
    rows: list[list[object]] = []
    for one in scores:
        means = ["" if mean is None else mean.mean for mean in one.means]
        patients = max(mean.n_patients for mean in one.means if mean)
        rows.append([one.column, *_line_cells(one.line), patients, *means])
    return header, rows


def _write_text_table(path: Path, table: TextTable, result: Comparison) -> None:
    """Write a table as Markdown and as LaTeX."""
    noted = replace(table, notes=tuple(notes_of(result)))
    write_text(path.with_name(f"{path.name}.md"), to_markdown(noted))
    write_text(path.with_name(f"{path.name}.tex"), to_latex(noted, path.name))
