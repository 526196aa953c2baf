"""Tables of a comparison as texts: runs side by side, paired differences, and fairness."""

import math
from collections.abc import Iterator, Mapping, Sequence

from flames_cli.report.text_tables import TextTable
from flames_cli.stages.compare.lines import Line
from flames_cli.stages.compare.metrics import COLUMNS, OPTIONS, Column, without_penalty
from flames_cli.stages.compare.statistics import Difference, Mean
from flames_cli.stages.compare.tables import Scores, Spread, Tables, find_best
from flames_cli.store.evaluations import unseen_kind

NAMES = 2
"""Number of columns of names in the table of means, before the number of patients and the runs."""
TITLES = {
    "clients": "clients' models on their own test sets",
    "server": "server models on unseen patients",
}
FEW = 0.001
"""A smaller p is shown as below it."""
SMALL_P = 0.05
"""Level of the corrected p below which a difference is bold."""


def title_of(tables: Tables, option: str, table: str) -> str:
    """Return the title of a table of means, with the metric and its unit."""
    base, _, column = table.partition("-by-")
    units = {COLUMNS[one.column].unit for one in tables.of(option, table)} - {""}
    title = COLUMNS[OPTIONS[option][0]].title
    if len(units) == 1:
        title += f" in {units.pop()}"
    return f"{title}: {TITLES[base]}" + (f", by {column}" if column else "")


def mean_table(tables: Tables, option: str, table: str, runs: Sequence[str], with_sd: bool) -> TextTable:
    """Return a table with a row per model and a column per run; the best runs of a row are bold.

    Args:
        tables: all numbers.
        option: value of --metric.
        table: name of the table.
        runs: names of the runs.
        with_sd: True for the standard deviation over replicates next to each mean, if there are several.
    """
    found = tables.of(option, table)
    first = {"clients": "client", "server": "model"}.get(table, table.partition("-by-")[2])
    header = [first, "images", "n", *runs]
    missed = {one.line.id: one.means for one in tables.of(option, table, penalised=False)}
    mixed = len({COLUMNS[one.column].unit for one in found}) > 1
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    rules: set[int] = set()
    for one in sorted(found, key=lambda one: one.line.kind == "all"):
        if one.line.kind == "all" and not rules:
            rules.add(len(rows))
        cells = [
            _mean_cell(mean, COLUMNS[one.column], with_sd, left_out)
            for mean, left_out in zip(one.means, _unpenalised(one, missed), strict=True)
        ]
        bold |= {(len(rows), NAMES + 1 + index) for index in one.best}
        rows.append([*_names(one, mixed), _count(one), *cells])
    spread = tables.spread(option) if table == "clients" else None
    if spread and any(one and one.n_clients > 1 for one in spread.runs):
        rules.add(len(rows))
        for row, best in _spread_rows(spread, with_sd):
            bold |= {(len(rows), NAMES + 1 + index) for index in best}
            rows.append(row)
    return TextTable(
        title_of(tables, option, table), header, rows, NAMES, frozenset(bold), frozenset(rules - {0})
    )


def _names(one: Scores, mixed: bool) -> list[str]:
    """Return the label of a line and what its images show; `mixed` adds the unit of its values."""
    line = one.line
    label = f"– {line.label}" if line.kind == "part" else line.label
    shown = {line.label, label}
    what = " ".join(part for part in (line.organ, line.modality) if part and part not in shown)
    unit = COLUMNS[one.column].unit
    return [label, f"{what} ({unit})" if mixed and line.kind != "all" else what]


def _count(one: Scores) -> str:
    """Return the number of patients, with the number of cases if it is another."""
    made = [mean for mean in one.means if mean]
    patients, cases = max(mean.n_patients for mean in made), max(mean.n for mean in made)
    return str(patients) if patients == cases else f"{patients} ({cases})"


def _unpenalised(
    one: Scores, plain: Mapping[tuple[str, ...], Sequence[Mean | None]]
) -> Sequence[Mean | None]:
    """Return the means without a penalty; those of other metrics are the same."""
    if without_penalty(one.column) == one.column:
        return one.means
    return plain.get(one.line.id, [None] * len(one.means))


def _mean_cell(mean: Mean | None, column: Column, with_sd: bool, plain: Mean | None) -> str:
    """Return a mean; in parentheses the number of cases that the run missed."""
    if mean is None:
        return ""
    shown = column.shown(mean.mean)
    if with_sd and len(mean.by_replicate) > 1:
        shown += f" ± {column.shown(mean.sd)}"
    missed = plain.n_missed if plain else mean.n
    return f"{shown} ({missed})" if missed else shown


def _spread_rows(spread: Spread, with_sd: bool) -> Iterator[tuple[list[str], set[int]]]:
    """Yield the mean over clients, the worst client and the spread of the clients' means, and the best
    runs."""
    column = COLUMNS[spread.column]
    made = [one for one in spread.runs if one]
    n = str(max(one.n_clients for one in made))
    cells = []
    for one in spread.runs:
        shown = column.shown(one.mean) if one else ""
        if one and with_sd and len(one.by_replicate) > 1:
            shown += f" ± {column.shown(one.sd_of_replicates)}"
        cells.append(shown)
    best = find_best([one.mean if one else None for one in spread.runs], spread.column)
    yield ["mean of clients", f"{n} clients", "", *cells], best
    worst = [one.worst if one else None for one in spread.runs]
    yield (
        ["worst client", "", "", *("" if one is None else column.shown(one) for one in worst)],
        find_best(worst, spread.column),
    )
    for label, field in (("sd of clients", "sd"), ("range of clients", "range")):
        values = [getattr(one, field) if one else math.nan for one in spread.runs]
        yield [label, "", "", *("" if math.isnan(one) else column.shown(one) for one in values)], set()


def difference_table(scores: Sequence[Scores], runs: Sequence[str], detail: bool) -> TextTable:
    """Return a table of the paired differences to the first run: a row per line and run.

    With one other run, a line has one row; else its name is above the rows of its runs.

    Args:
        scores: lines of one metric; not empty.
        runs: names of the runs; the first is the reference.
        detail: True for Wilcoxon's p and Cohen's dz.
    """
    reference, *others = runs
    more = ["p Wilcoxon", "dz"] if detail else []
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for one in scores:
        made = [(run, found) for run, found in zip(others, one.differences, strict=True) if found]
        if made and len(others) > 1:
            rows.append([line_name(one.line), *[""] * (5 + len(more))])
        for run, found in made:
            if found.p_permutation_holm < SMALL_P:
                bold.add((len(rows), 2))
            name = f"– {run}" if len(others) > 1 else line_name(one.line)
            cells = _difference_cells(found, COLUMNS[one.column], detail)
            rows.append([name, str(found.test.n_patients), *cells])
    column = COLUMNS[scores[0].column]
    what = f"{column.title} in {column.unit}" if column.unit else column.title
    title = f"{what}: {others[0] if len(others) == 1 else 'each run'} − {reference}, paired"
    header = ["patients of", "n", "difference", "95 % interval", "p", *more, "r"]
    return TextTable(title, header, rows, 1, frozenset(bold))


def line_name(line: Line) -> str:
    """Return the name of a line that also says of which table it is."""
    base = line.table.partition("-by-")[0]
    if line.kind == "model":
        return f"{line.label} (server)" if base == "server" else line.label
    if line.kind == "part":
        return f"{line.modality} {line.label}" + (" (server)" if base == "server" else "")
    whose = {"clients": "all clients", "server": "all server models"}[base]
    if line.kind == "all":
        # The names of several unseen sites are listed.
        return ", ".join(filter(None, (whose, unseen_kind(line.unseen_site))))
    return f"{line.label} ({whose})"


def _difference_cells(made: Difference, column: Column, detail: bool) -> list[str]:
    limits = (
        "" if math.isnan(made.low) else f"[{column.shown(made.low, '+')}, {column.shown(made.high, '+')}]"
    )
    more = [p_text(made.p_wilcoxon_holm), _number(made.test.cohens_dz)] if detail else []
    shown = [column.shown(made.mean, "+"), limits, p_text(made.p_permutation_holm), *more]
    return [*shown, _number(made.test.rank_biserial)]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+z.2f}"


def p_text(p: float) -> str:
    """Return a p value with three decimals, or that it is below the smallest of them."""
    return "" if math.isnan(p) else f"<{FEW}" if p < FEW else f"{p:.3f}"
