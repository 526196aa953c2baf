"""Screen of `flames evaluate`: a table of clients, a table of server models, and where to look on."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flames_cli.cli.render_evaluation import metric_tables, print_table, untitled_table
from flames_cli.cli.render_options import option_summary
from flames_cli.cli.text import count, epsilon_spent
from flames_cli.store.evaluations import name_images

if TYPE_CHECKING:  # these load torch and Flower
    from flames_cli.stages.evaluate.files import Evaluation
    from flames_cli.stages.evaluate.summary import Fairness, SummaryRow
    from flames_cli.store.evaluations import EvaluatedRun

MOST_ROWS = 14
"""Largest number of lines of a table, so that both tables fit on one screen; the files have all lines."""

MOST_NOTES = 3
NAMES_WIDTH = 24
"""Largest width of a list of names in a note."""


def print_summary(console: Console, result: "Evaluation") -> None:
    """Print at most one screen: two tables, a line per option that changes masks, three notes, the picture to
    open and the folder."""
    for split, tables in result.tables.splits.items():
        if tables.summary:
            console.print(_title(split, result), style="bold", soft_wrap=True)
            console.print(_table(split, tables.summary, tables.fairness, result))
    for table in metric_tables(result.content):
        print_table(console, table)
    for note in [*option_summary(result.content), *[*_notes(result)][:MOST_NOTES]]:
        console.print(note, style="dim", soft_wrap=False)
    for picture in ("cross-site.png", "overlays-client.png", "overlays-server.png"):
        if (result.folder / picture).is_file():
            console.print(f"open: {result.folder / picture}", style="bold", soft_wrap=True)
            break
    console.print(f"→ {result.folder} (all tables: --detail)", style="cyan", soft_wrap=True)


def _title(split: str, result: "Evaluation") -> str:
    first = result.content.runs[0]
    seeds = f", {count(len(result.content.runs), 'run')}" if len(result.content.runs) > 1 else ""
    rounds = sorted({run.round for run in result.content.runs})
    of = f" of {first.last_round}" if rounds != [first.last_round] else ""
    plural = "" if len(rounds) == 1 else "s"
    what = "clients, own test patients" if split == "client_test" else "server models, unseen patients"
    shown = ", ".join(map(str, rounds))
    if first.is_from_file:
        return f"{what}: {result.run} ({first.strategy}, {first.why})"
    return f"{what}: {result.run} ({first.strategy}, round{plural} {shown}{of}{seeds})"


def _table(
    split: str, rows: "Sequence[SummaryRow]", fairness: "Fairness | None", result: "Evaluation"
) -> Table:
    units = result.content.units.get(split, {})
    table = untitled_table()
    table.add_column("client" if split == "client_test" else "model", overflow="fold")
    table.add_column("images", overflow="fold")
    for name in ("patients", "Dice", "HD95", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:MOST_ROWS]:
        images = name_images(row.organ, row.modality, row.unseen)
        table.add_row(row.label, images, _patients(row, units), _dice(row), _distance(row), str(row.missed))
    if len(rows) > MOST_ROWS:
        table.add_row(f"{len(rows) - MOST_ROWS} more", "see --detail")
    if fairness:
        mean = f"{fairness.mean:.2f}±{fairness.sd:.2f}"
        worst = f"worst {fairness.worst_dice:.2f}, best {fairness.best_dice:.2f}"
        table.add_row("mean", worst, "", mean, "", "", style="bold")
    return table


def _patients(row: "SummaryRow", units: Mapping[str, str]) -> str:
    """Return the number of patients with that of volumes or images, alone if patients are unknown."""
    what = count(row.n, row.protocol.removesuffix("s"))
    nameless = all(units.get(dataset) == "image" for dataset in row.datasets)
    return what if nameless else f"{row.n_patients} ({what})"


def _dice(row: "SummaryRow") -> str:
    if math.isnan(row.dice.mean):
        return "none"
    # The standard deviation of one value says nothing.
    alone = row.dice.n == 1 and not row.dice.sd
    return f"{row.dice.mean:.2f}" if alone else f"{row.dice.mean:.2f}±{row.dice.sd:.2f}"


def _distance(row: "SummaryRow") -> str:
    return f"{row.penalised.mean:.1f} {row.unit}" if row.unit and row.penalised.n else "none"


def _notes(result: "Evaluation") -> Iterator[str]:
    """Yield notes, the most important first."""
    content = result.content
    if any(run.stale_statistics for run in content.runs):
        yield "statistics of BatchNorm are the blend's: pass --round best or last (--detail)"
    if content.incomplete:
        names = _listed(content.incomplete, "data set")
        yield f"{names}: slices are missing, so scores are of images (--detail)"
    if spent := content.privacy:
        yield f"privacy: {epsilon_spent(spent)} for each client"
    if content.untested:
        yield f"not tested: {_listed(content.untested, 'name')} (--detail)"
    if result.cross_site:
        means = result.cross_site.means.items()
        yield "cross-site Dice: " + ", ".join(f"{kind} {value:.2f}" for kind, value in means)
    yield "HD95: the diagonal of the image or volume for each missed case (nothing found)"
    yield from _round_notes(content.runs)
    yield f"±: standard deviation over {_spread(result)}"


def _spread(result: "Evaluation") -> str:
    """Return what the standard deviations of both tables are over, and that of the mean of the clients."""
    splits = result.tables.splits
    over = {split: result.replicates(split) or "volumes or images" for split in splits}
    words = "; server models: ".join(dict.fromkeys(over.values()))
    clients = splits.get("client_test")
    return f"{words}; mean: over clients" if clients and clients.fairness else words


def _listed(names: Collection[str], noun: str) -> str:
    """Return the names, or their number if they are too long for a line."""
    text = ", ".join(names)
    return text if len(text) <= NAMES_WIDTH else count(len(names), noun)


def _round_notes(runs: "Sequence[EvaluatedRun]") -> Iterator[str]:
    """Yield why this round was taken, in short."""
    asked = {run.asked for run in runs}
    if asked & {"best", "best-small"}:
        yield "the round is the best by the clients' validation"
