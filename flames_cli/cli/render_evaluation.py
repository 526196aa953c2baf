"""The tables of an evaluation: volumes, images by all metrics, Dice by size of lesion, and lesions found."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flames_cli.cli.render_options import calibration_tables, option_notes, option_tables
from flames_cli.cli.text import count, epsilon_spent
from flames_cli.core.patient_units import join_units
from flames_cli.store.evaluations import name_images

if TYPE_CHECKING:  # these load torch and Flower, which `flames preprocess` has no use for
    from flames_cli.core.scores.metrics import Summary
    from flames_cli.stages.evaluate.cross_site import CrossSite
    from flames_cli.stages.evaluate.files import Evaluation
    from flames_cli.stages.evaluate.lesion_rows import FalsePositives, LesionRow, SizeScores
    from flames_cli.stages.evaluate.rows import Row
    from flames_cli.stages.evaluate.tables import VolumeRow
    from flames_cli.store.evaluations import EvaluatedRun, EvaluationFile

FOUND = ("small", "large", "lesion")
"""Sizes of lesion in the table of found lesions."""

NOT_PRIVATE = "it does not cover the losses, Dice and counts that clients report"

TITLES = {"iou": "IoU", "dice": "Dice", "pixel_accuracy": "acc %", "hausdorff_px": "HD px"}
MAJORITY = "maj. %"
"""Title of the column of the majority accuracy."""
VOLUME_TITLES = {
    "dice": "Dice",
    "sensitivity": "sens.",
    "precision": "prec.",
    "volume_error_ml": "error ml",
    "hd95_mm": "HD95 mm",
    "nsd_2mm": "NSD",
}
DIGITS = {"hausdorff_px": 1, "hd95_mm": 1, "volume_error_ml": 1}
"""Number of decimals by metric; 2 for all others."""


def evaluation_tables(result: "Evaluation") -> Iterator[Table]:
    """Yield the tables of clients and of server models: volumes, images, sizes of lesion, lesions found; then
    what options gain, and the calibration."""
    run = result.content.runs[0]
    by = f"{result.run} ({run.strategy}{'' if run.is_from_file else f', {_rounds_of(result)}'})"
    for split, tables in result.tables.splits.items():
        first, title = "client", "clients, own test sets"
        if split == "server_test":
            first, title = "model", f"server models, unseen {_units(result, split)}"
        if tables.volumes:
            yield volume_table(f"{title}: complete volumes: {by}", first, tables.volumes)
        if not tables.images:
            continue
        yield score_table(f"{title}: {by}", first, tables.images)
        if len(result.seeds) > 1:
            yield seed_table(f"{title}: Dice by seed {_listed(result.seeds)}", first, tables.images)
        yield lesion_table(f"{title}: Dice (cases) by size of lesion", first, tables.lesions)
        yield found_table(f"{title}: lesions found", first, tables.lesions)
        if any(row.healthy for row in tables.lesions):
            yield healthy_table(f"{title}: images without a lesion", first, tables.lesions)
    yield from metric_tables(result.content)
    yield from option_tables(result.content)
    yield from calibration_tables(result.content)
    if result.cross_site:
        yield _cross_table(result.cross_site)


def metric_tables(content: "EvaluationFile") -> Iterator[Table]:
    """Yield the table of each split with the metrics of plug-ins, if there are any."""
    for name, title in (("clients", "clients, own test sets"), ("server", "server models")):
        if lines := content.tables.get(f"metrics-{name}"):
            yield _metric_table(f"{title}: metrics of plug-ins", lines)


def _metric_table(title: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table(title)
    for name in ("metric", "model", "images"):
        table.add_column(name, overflow="fold")
    for name in ("n", "mean±sd", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        better = "↑" if line["higher_is_better"] else "↓"
        unit = f" {line['unit']}" if line["unit"] else ""
        mean = f"{line['mean']:.3f}±{line['sd']:.3f}{unit}" if line["n"] else "none"
        table.add_row(
            f"{line['metric']} {better}",
            str(line["model"]),
            f"{name_images(line['organ'], line['modality'], line['unseen_site'])} ({line['protocol']})",
            str(line["n"]),
            mean,
            str(line["n_infinite"]),
        )
    return table


def _cross_table(cross: "CrossSite") -> Table:
    """Return the table of each client's model: its mean Dice on its own test set and on those of others."""
    from flames_cli.stages.evaluate.cross_site import KINDS, group_cells

    table = plain_table("cross-site: mean Dice of each client's model by test set (number of test sets)")
    table.add_column("model of", overflow="fold")
    table.add_column("modality", overflow="fold")
    for kind in KINDS:
        table.add_column(kind, justify="right", no_wrap=True)
    for name, modality in {cell.model: cell.model_modality for cell in cross.cells}.items():
        found = group_cells(cell for cell in cross.cells if cell.model == name)
        cells = [found.get(kind, []) for kind in KINDS]
        shown = (f"{sum(one) / len(one):.2f} ({len(one)})" if one else "none" for one in cells)
        table.add_row(name, modality, *shown)
    return table


def evaluation_notes(result: "Evaluation") -> Iterator[str]:
    """Yield notes that explain the words of the tables, and first the choice of the round."""
    content = result.content
    by_choice: dict[str, list[str]] = {}
    for run in content.runs:
        choice = run.why if run.is_from_file else f"round {run.round}, {run.why}"
        by_choice.setdefault(choice, []).append(run.name)
    for choice, runs in by_choice.items():
        yield f"{', '.join(runs)}: {choice}"
    if stale := [run.name for run in content.runs if run.stale_statistics]:
        yield (
            f"{', '.join(stale)}: BatchNorm's statistics of this round are those of the blend, with which "
            "models find less; clients estimate others only for the last and the best rounds: pass --round "
            "best or last"
        )
    if plugins := content.options.get("plugins"):
        yield f"plug-ins: {', '.join(plugins)}"
    yield from option_notes(content)
    if result.is_ensemble:
        yield f"ensemble: the mean probability of {count(len(content.runs), 'run')}"
    elif len(content.runs) > 1:
        yield f"pictures: those of {content.runs[0].name}, the first run"
    if spent := content.privacy:
        each = " and for each seed: their costs add up" if len(result.seeds) > 1 else ""
        yield (
            f"privacy: {epsilon_spent(spent)} after {count(spent['releases'], 'release')} with noise "
            f"{spent['noise']:g} and clip {spent['clip']:g}, for each client{each}; {NOT_PRIVATE}"
        )
    yield from _notes_on_tables(result)


def _notes_on_tables(result: "Evaluation") -> Iterator[str]:
    content, splits = result.content, result.tables.splits.values()
    if fair := content.fairness:
        yield (
            f"fairness: mean Dice of {fair['n']} clients {fair['dice_mean']:.3f}±{fair['dice_sd']:.3f}, "
            f"worst {fair['worst']} {fair['worst_dice']:.3f}, best {fair['best']} {fair['best_dice']:.3f}, "
            f"spread {fair['spread']:.3f}"
        )
    if names := content.incomplete:
        yield (
            f"volumes of {', '.join(names)}: slices are missing, so they have no scores in mm and ml; "
            "`flames preprocess --overwrite` and `flames partition --overwrite` store all slices"
        )
    if note := _nameless_note(result):
        yield note
    yield f"{MAJORITY}: accuracy of a prediction without tumour, for comparison with acc %"
    by_split = [result.replicates(split) for split in result.tables.splits]
    several = max(by_split, key=len, default="")
    over = "; server models: ".join(
        dict.fromkeys(f"{one} of the mean over n cases" if one else "n cases" for one in by_split)
    )
    fewest = " of the run with the fewest" if several else ""
    yield (
        f"mean±sd over {over}; HD only where neither mask is empty: (cases{fewest}) where that is not all; "
        "|…: with the diagonal for each missed case"
    )
    if any(tables.lesions for tables in splits):
        yield _small_note(result)
        counted = f", counted over all {several}" if several else ""
        yield f"found: lesions matched one to one with predicted ones{counted}; prec.: of predicted lesions"
    if any(row.healthy for tables in splits for row in tables.lesions):
        yield (
            "without a lesion: marked: share of images with any prediction; lesions/image: false lesions; "
            "area: predicted share of the image"
        )
    if len(result.seeds) > 1:
        units, drawn = _units(result, *content.units), several.replace("folds", "folds (server models)")
        yield (
            f"[…]: 95 % bootstrap interval over {units.replace(' and ', ', ')} and {drawn}, too narrow for "
            f"fewer than some 20 {units} or 10 seeds"
        )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _rounds_of(result: "Evaluation") -> str:
    """Return the number of rounds, or which of them was evaluated, and the number of seeds."""
    runs: Sequence[EvaluatedRun] = result.content.runs
    rounds = sorted({run.round for run in runs})
    shown = count(runs[0].round, "round")
    if any(run.round != run.last_round for run in runs):
        shown = f"{'round' if len(rounds) == 1 else 'rounds'} {_listed(rounds)} of {runs[0].last_round}"
    return f"{shown}, {count(len(result.seeds), 'seed')}" if len(result.seeds) > 1 else shown


def _units(result: "Evaluation", *splits: str) -> str:
    """Return the words for what counts as patients in the test sets of `splits`."""
    units = result.content.units
    return join_units(unit for split in splits for unit in units.get(split, {}).values())


def _nameless_note(result: "Evaluation") -> str:
    """Return a note on data sets that name no patients; empty if there is none."""
    found = {name: unit for split in result.content.units.values() for name, unit in split.items()}
    names = [name for name, unit in found.items() if unit == "image"]
    return f"images: {', '.join(names)} (patients unknown)" if names else ""


def _small_note(result: "Evaluation") -> str:
    """Return the rules for small lesions, such as `small: image area / lesion area ≥ 100`."""
    from flames_cli.core.imaging.small_lesion_rule import parse_small_lesion_rule

    rules: dict[str, list[str]] = {}
    for dataset, rule in result.content.small.items():
        rules.setdefault(parse_small_lesion_rule(rule).condition, []).append(dataset)
    if len(rules) == 1:
        return f"small: {next(iter(rules))}"
    return "small: " + "; ".join(f"{', '.join(names)}: {rule}" for rule, names in rules.items())


def volume_table(title: str, first: str, rows: "Sequence[VolumeRow]") -> Table:
    """Return the table of complete volumes, a row per model, at most 80 columns wide."""
    columns = ["n", *VOLUME_TITLES.values()]
    return _table(title, first, columns, ((row.scores, _volume_cells(row.scores)) for row in rows))


def _volume_cells(row: "Row") -> list[str]:
    cells = [_mean_cell(metric, row) for metric in VOLUME_TITLES]
    patients = str(row.n) if row.n == row.n_patients else f"{row.n_patients} ({row.n})"
    return [patients, *cells]


def _mean_cell(metric: str, row: "Row") -> str:
    """Return the mean, with the number of cases if some have no value, and the penalised mean."""
    value, digits = row.metrics[metric], DIGITS.get(metric, 2)
    shown = f"{value.mean:.{digits}f}" if value.n else "none"
    if value.n and value.n != row.n:
        shown += f" ({value.n})"
    penalised = row.penalised.get(metric)
    differs = penalised is not None and penalised.n and penalised.mean != value.mean
    return f"{shown}|{penalised.mean:.{digits}f}" if penalised is not None and differs else shown


def score_table(title: str, first: str, rows: "Sequence[Row]") -> Table:
    """Return the table with a row per model and a column per metric, at most 80 columns wide.

    Names are wrapped where the table is too wide; numbers are not.
    """
    lines = (
        (
            row,
            [
                str(row.n),
                *(metric_cell(metric, row.metrics[metric], row.n) for metric in TITLES),
                f"{100 * row.metrics['majority_accuracy'].mean:.1f}",
            ],
        )
        for row in rows
    )
    return _table(title, first, ["n", *TITLES.values(), MAJORITY], lines)


def seed_table(title: str, first: str, rows: "Sequence[Row]") -> Table:
    """Return the table of mean Dice with its interval over patients and seeds, and of each seed."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    table.add_column("images", overflow="fold")
    for name in ("n", "patients", "Dice", "[95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by seed", overflow="fold")
    for row in rows:
        dice = row.intervals["dice"]
        limits = "" if math.isnan(dice.low) else f"[{dice.low:.3f}, {dice.high:.3f}]"
        seeds = " ".join(f"{mean:.3f}" for mean in row.by_seed)
        cells = (str(row.n), str(dice.n_patients), f"{dice.mean:.3f}", limits, seeds)
        table.add_row(row.label, _what(row), *cells)
    return table


def lesion_table(title: str, first: str, rows: "Sequence[LesionRow]") -> Table:
    """Return the table of Dice by size of lesion, with the number of cases."""
    cells: Callable[[SizeScores], str] = lambda value: (  # noqa: E731
        f"{value.dice.mean:.3f} ({value.dice.n})" if value.dice.n else "none"
    )
    lines = ((row, [cells(value) for value in row.sizes.values()]) for row in rows)
    return _table(title, first, list(rows[0].sizes), lines)


def found_table(title: str, first: str, rows: "Sequence[LesionRow]") -> Table:
    """Return the table of found lesions by size of the image's lesions, with precision and F1."""
    return _table(title, first, [*FOUND, "prec.", "F1"], ((row, _found_cells(row)) for row in rows))


def _found_cells(row: "LesionRow") -> list[str]:
    cells = []
    for size in FOUND:
        found = row.sizes[size].found
        cells.append(f"{found.recall():.2f} ({found.matched}/{found.lesions})" if found.lesions else "none")
    every = row.sizes["all"].found
    return [
        *cells,
        *("none" if math.isnan(value) else f"{value:.2f}" for value in (every.precision(), every.f1())),
    ]


def healthy_table(title: str, first: str, rows: "Sequence[LesionRow]") -> Table:
    """Return the table of false positives on images without a lesion, of rows with such images."""
    lines = ((row, _healthy_cells(row.healthy)) for row in rows if row.healthy)
    return _table(title, first, ["n", "marked", "lesions/image", "area %"], lines)


def _healthy_cells(value: "FalsePositives") -> list[str]:
    false = value.found.false_positives_per_image()
    shown = "none" if math.isnan(false) else f"{false:.2f}"
    return [str(value.n), f"{value.rate:.2f}", shown, f"{100 * value.area:.2f}"]


def _table(
    title: str, first: str, columns: Sequence[str], lines: "Iterable[tuple[Row | LesionRow, list[str]]]"
) -> Table:
    """Return a table of models with their images; names are wrapped where it is too wide, numbers are not."""
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    table.add_column("images", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, cells in lines:
        table.add_row(row.label, _what(row), *cells)
    return table


def untitled_table() -> Table:
    """Return an empty table without lines, whose title is printed before it: a title of its own would be
    wrapped at the width of the columns."""
    return Table(box=None, padding=(0, 1, 0, 0), header_style="underline")


def print_table(console: Console, table: Table) -> None:
    """Print a table below its title, which would be wrapped at the width of the columns."""
    console.print(table.title or "", style="italic", soft_wrap=True)
    table.title = None
    console.print(table)


def plain_table(title: str) -> Table:
    """Return an empty table without lines, as narrow as its content."""
    return Table(
        title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold underline"
    )


def _what(row: "Row | LesionRow") -> str:
    """Return the organ of the images, with the modality if the row is not an unseen site, or the data set."""
    return f"– {row.dataset}" if row.dataset else name_images(row.organ, row.modality, row.unseen)


def metric_cell(metric: str, value: "Summary", n: int) -> str:
    """Return mean±sd, with the number of cases if some have no value; none if a seed has none."""
    if math.isnan(value.mean) or not value.n:
        return "none"
    factor, digits = {"pixel_accuracy": (100, 1), "hausdorff_px": (1, 1)}.get(metric, (1, 2))
    shown = f"{factor * value.mean:.{digits}f}±{factor * value.sd:.{digits}f}"
    return shown if value.n == n else f"{shown} ({value.n})"
