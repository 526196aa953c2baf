"""The tables of an evaluation: all metrics, Dice by size of lesion, and gains with their intervals."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from flames_cli.cli.text import count, epsilon_spent
from flames_cli.core.patient_units import join_units

if TYPE_CHECKING:  # these load torch and Flower, which `flames preprocess` has no use for
    from flames_cli.core.scores.intervals import Interval
    from flames_cli.core.scores.metrics import Summary
    from flames_cli.stages.evaluate.files import Evaluation
    from flames_cli.stages.evaluate.lesion_rows import FalsePositives, LesionRow, SizeScores
    from flames_cli.stages.evaluate.rows import Row

FOUND = ("small", "large", "lesion")
"""Sizes of lesion in the table of found lesions."""

NOT_PRIVATE = "it does not cover the losses, Dice and counts that clients report"

TITLES = {"iou": "IoU", "dice": "DSC", "pixel_accuracy": "acc %", "hausdorff_px": "HD px"}
MAJORITY = "maj. %"
"""Title of the column of the majority accuracy."""

NAME_WIDTH = 13
"""Largest width of a name that is not wrapped next to the scores of two runs."""


def evaluation_tables(result: "Evaluation") -> Iterator[Table]:
    """Yield the tables of clients and of server models: all metrics, Dice by size of lesion, gains."""
    by = f"{result.run} ({result.strategy}, {_rounds_of(result)})"
    shown = (
        ("client_test", "client", "clients, own test sets", result.clients),
        ("server_test", "model", f"server models, unseen {_units(result, 'server_test')}", result.server),
    )
    for split, first, title, rows in shown:
        if rows:
            yield score_table(f"{title}: {by}", first, rows, result.run, result.compare)
            if len(result.seeds) > 1:
                yield seed_table(f"{title}: DSC by seed {_listed(result.seeds)}", first, rows)
        if by_size := result.lesions.get(split):
            yield lesion_table(f"{title}: DSC (cases) by size of lesion", first, by_size, result)
            yield found_table(f"{title}: lesions found", first, by_size, result)
            if any(row.healthy for row in by_size):
                yield healthy_table(f"{title}: images without a lesion", first, by_size, result)
            if any(row.gains for row in by_size):
                yield gain_table(f"{title}: gain in DSC ({_units(result, split)})", first, by_size)


def evaluation_notes(result: "Evaluation") -> Iterator[str]:
    """Yield notes that explain the words of the tables, and first the choice of the round."""
    by_choice: dict[str, list[str]] = {}
    for run, chosen in result.chosen.items():
        by_choice.setdefault(f"round {chosen.round}, {chosen.why}", []).append(run)
    for choice, runs in by_choice.items():
        yield f"{', '.join(runs)}: {choice}"
    if stale := result.stale_statistics:
        yield (
            f"{', '.join(stale)}: BatchNorm's statistics of this round are those of the blend, with which "
            "models find less; clients estimate others only for the last and the best rounds: pass --round "
            "best or last"
        )
    if result.pictures_of:
        yield f"pictures: those of {result.pictures_of}, the first seed"
    if spent := result.privacy:
        each = " and for each seed: their costs add up" if len(result.seeds) > 1 else ""
        yield (
            f"privacy: {epsilon_spent(spent)} after {count(spent['releases'], 'release')} with noise "
            f"{spent['noise']:g} and clip {spent['clip']:g}, for each client{each}; {NOT_PRIVATE}"
        )
    if note := _nameless_note(result):
        yield note
    if not result.compare:
        yield f"{MAJORITY}: accuracy of a prediction without tumour, for comparison with acc %"
    several = len(result.seeds) > 1 or len(result.compared_seeds) > 1
    fewest = " of the seed with the fewest" if several else ""
    yield (
        f"mean±sd over {_over(result)}; HD only where neither mask is empty: (cases{fewest}) where that is "
        "not all"
    )
    if any(result.lesions.values()):
        yield _small_note(result)
        counted = ", counted over all seeds" if several else ""
        yield f"found: lesions that the prediction touches{counted}; prec.: its parts that touch one"
    if any(row.healthy for rows in result.lesions.values() for row in rows):
        yield (
            f"without a lesion: marked: share (number{counted}) of images with any prediction; "
            "lesions/image: false lesions; area: predicted share of the image"
        )
    if result.compare:
        yield f"gain: mean of the paired differences in DSC, {result.run} − {result.compare}"
        if alone := dict.fromkeys(row.label for row in (*result.clients, *result.server) if not row.compared):
            yield (
                f"no comparison for {', '.join(alone)}: {result.compare} has no such model, or several; "
                f"--run {result.compare} --compare {result.run} compares each of several"
            )
        if not result.same_seeds:
            yield "the runs have different seeds: gains are paired by case only, and seeds drawn separately"
    if several or any(row.gains for rows in result.lesions.values() for row in rows):
        over = _units(result, *result.units)
        few = f"20 {over} or 10 seeds" if several else "20"
        drawn = f"{over.replace(' and ', ', ')} and seeds" if several else over
        yield f"[…]: 95 % bootstrap interval over {drawn}, too narrow for fewer than some {few}"


def _over(result: "Evaluation") -> str:
    """Return the words for what the standard deviations of the tables are over."""
    several = {len(seeds) > 1 for seeds in (result.seeds, result.compared_seeds) if seeds}
    if several == {True}:
        return "seeds of the mean over n cases"
    return "n cases; for several seeds over the seeds' means" if several == {True, False} else "n cases"


def _listed(seeds: "Sequence[int]") -> str:
    return ", ".join(map(str, seeds))


def _rounds_of(result: "Evaluation") -> str:
    """Return the number of rounds, or which of them was evaluated, and the number of seeds."""
    own = [chosen for run, chosen in result.chosen.items() if run in result.members]
    rounds = sorted({chosen.round for chosen in own})
    shown = count(result.round, "round")
    if any(chosen.round != chosen.last for chosen in own):
        shown = f"{'round' if len(rounds) == 1 else 'rounds'} {_listed(rounds)} of {own[0].last}"
    return f"{shown}, {count(len(result.seeds), 'seed')}" if len(result.seeds) > 1 else shown


def _units(result: "Evaluation", *splits: str) -> str:
    """Return the words for what counts as patients in the test sets of `splits`."""
    return join_units(unit for split in splits for unit in result.units.get(split, {}).values())


def _nameless_note(result: "Evaluation") -> str:
    """Return a note on data sets that name no patients; empty if there is none."""
    found = {name: unit for split in result.units.values() for name, unit in split.items()}
    names = [name for name, unit in found.items() if unit == "image"]
    return f"images: {', '.join(names)} (patients unknown)" if names else ""


def _small_note(result: "Evaluation") -> str:
    """Return the rules for small lesions, such as `small: image area / lesion area ≥ 100`."""
    rules: dict[str, list[str]] = {}
    for dataset, rule in result.small.items():
        rules.setdefault(rule.condition, []).append(dataset)
    if len(rules) == 1:
        return f"small: {next(iter(rules))}"
    return "small: " + "; ".join(f"{', '.join(names)}: {rule}" for rule, names in rules.items())


def score_table(title: str, first: str, rows: "Sequence[Row]", run: str, compare: str | None) -> Table:
    """Return the table with a row per model and a column per metric, at most 80 columns wide.

    With another run, a row has a line for each run and the paired gain in Dice. Names are wrapped or cut
    short where the table is too wide; numbers are not.
    """
    table = plain_table(title)
    names = [name for row in rows for name in (row.label, _what(row))]
    table.add_column(first, no_wrap=bool(compare) and max(map(len, names)) <= NAME_WIDTH, overflow="fold")
    table.add_column("run" if compare else "images", overflow="ellipsis" if compare else "fold")
    for name in ("n", *TITLES.values(), "gain" if compare else MAJORITY):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        own = [str(row.n), *_cells(row, row.metrics)]
        if not compare:
            table.add_row(row.label, _what(row), *own, f"{100 * row.metrics['majority_accuracy'].mean:.1f}")
            continue
        table.add_row(row.label, run, *own, f"{row.dice_gain.mean:+.2f}" if row.dice_gain else "")
        theirs = ["", *_cells(row, row.compared), ""] if row.compared else []
        table.add_row(_what(row), compare if theirs else "", *theirs, style="dim")
    return table


def seed_table(title: str, first: str, rows: "Sequence[Row]") -> Table:
    """Return the table of mean Dice with its interval over patients and seeds, and of each seed."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    table.add_column("images", overflow="fold")
    for name in ("n", "patients", "DSC", "[95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by seed", overflow="fold")
    for row in rows:
        dice = row.intervals["dice"]
        limits = "" if math.isnan(dice.low) else f"[{dice.low:.3f}, {dice.high:.3f}]"
        seeds = " ".join(f"{mean:.3f}" for mean in row.by_seed)
        cells = (str(row.n), str(dice.n_patients), f"{dice.mean:.3f}", limits, seeds)
        table.add_row(row.label, _what(row), *cells)
    return table


def lesion_table(title: str, first: str, rows: "Sequence[LesionRow]", result: "Evaluation") -> Table:
    """Return the table of Dice by size of lesion, with the number of cases."""
    return _run_table(title, first, rows, result, list(rows[0].sizes), _dice_cells)


def found_table(title: str, first: str, rows: "Sequence[LesionRow]", result: "Evaluation") -> Table:
    """Return the table of found lesions by size of the image's lesions, with the precision of predictions."""
    return _run_table(title, first, rows, result, [*FOUND, "prec."], _found_cells)


def _run_table(
    title: str,
    first: str,
    rows: "Sequence[LesionRow]",
    result: "Evaluation",
    columns: list[str],
    cells: "Callable[[dict[str, SizeScores], bool], list[str]]",
) -> Table:
    """Return a table with one line per run in each row, at most 80 columns wide; only names are wrapped."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    table.add_column("run" if result.compare else "images", overflow="ellipsis" if result.compare else "fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    # Lesions are counted over all seeds, so their number may differ between the runs.
    other_counts = len(result.seeds) != max(1, len(result.compared_seeds))
    for row in rows:
        if result.compare:
            table.add_row(row.label, result.run, *cells(row.sizes, True))
            theirs = cells(row.compared, other_counts) if row.compared else []
            table.add_row(_what(row), result.compare if theirs else "", *theirs, style="dim")
        else:
            table.add_row(row.label, _what(row), *cells(row.sizes, True))
    return table


def healthy_table(title: str, first: str, rows: "Sequence[LesionRow]", result: "Evaluation") -> Table:
    """Return the table of false positives on images without a lesion, if a row has such images."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    table.add_column("run" if result.compare else "images", overflow="ellipsis" if result.compare else "fold")
    for name in ("n", "marked", "lesions/image", "area %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (row for row in rows if row.healthy):
        if result.compare:
            table.add_row(row.label, result.run, *_healthy_cells(row.healthy))
            theirs = _healthy_cells(row.compared_healthy)
            table.add_row(_what(row), result.compare if theirs else "", *theirs, style="dim")
        else:
            table.add_row(row.label, _what(row), *_healthy_cells(row.healthy))
    return table


def _healthy_cells(value: "FalsePositives | None") -> list[str]:
    if value is None:
        return []
    marked = f"{value.share_marked:.2f} ({value.n_marked})"
    return [str(value.n), marked, f"{value.lesions_per_image:.2f}", f"{100 * value.area:.2f}"]


def gain_table(title: str, first: str, rows: "Sequence[LesionRow]") -> Table:
    """Return the table of paired gains in Dice by size of lesion, with patients and intervals."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    for name in rows[0].sizes:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.gains:
            table.add_row(row.label, *map(_gain_cell, row.gains.values()))
            table.add_row(_what(row), *map(_limits_cell, row.gains.values()), style="dim")
    return table


def plain_table(title: str) -> Table:
    """Return an empty table without lines, as narrow as its content."""
    return Table(
        title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold underline"
    )


def _what(row: "Row | LesionRow") -> str:
    """Return the organ of the images, with the modality if the row is not an unseen site."""
    return row.organ if row.unseen else f"{row.organ} {row.modality}".rstrip()


def _cells(row: "Row", metrics: "dict[str, Summary]") -> list[str]:
    return [metric_cell(metric, metrics[metric], row.n) for metric in TITLES]


def metric_cell(metric: str, value: "Summary", n: int) -> str:
    """Return mean±sd, with the number of cases if some have no value; none if a seed has none."""
    if math.isnan(value.mean) or not value.n:
        return "none"
    factor, digits = {"pixel_accuracy": (100, 1), "hausdorff_px": (1, 1)}.get(metric, (1, 2))
    shown = f"{factor * value.mean:.{digits}f}±{factor * value.sd:.{digits}f}"
    return shown if value.n == n else f"{shown} ({value.n})"


def _dice_cells(sizes: "dict[str, SizeScores]", with_n: bool) -> list[str]:
    """Return the cells of Dice, one per size."""
    return [_dice_cell(value.dice, with_n) for value in sizes.values()]


def _found_cells(sizes: "dict[str, SizeScores]", with_n: bool) -> list[str]:
    """Return the cells of recall, one per size of FOUND, and of precision over all cases."""
    cells = []
    for size in FOUND:
        counts = sizes[size].lesions
        shown = f"{counts.found}/{counts.n}" if with_n else f"{counts.found}"
        cells.append(f"{counts.recall():.2f} ({shown})" if counts.n else "none")
    every = sizes["all"].lesions
    return [*cells, f"{every.precision():.2f}" if every.n_predicted else "none"]


def _dice_cell(value: "Summary", with_n: bool) -> str:
    if not value.n:
        return "none"
    return f"{value.mean:.3f} ({value.n})" if with_n else f"{value.mean:.3f}"


def _gain_cell(value: "Interval") -> str:
    return f"{value.mean:+.3f} ({value.n_patients})" if value.n else "none"


def _limits_cell(value: "Interval") -> str:
    return "" if math.isnan(value.low) else f"[{value.low:+.3f}, {value.high:+.3f}]"
