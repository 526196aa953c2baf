"""Section about the rounds: learning curves, validation, and the round whose models are used."""

from collections.abc import Iterator
from dataclasses import replace

from flames_cli.core.words import count, duration
from flames_cli.errors import FlamesError
from flames_cli.report.document import Block, Drawings, Paragraph, Section
from flames_cli.report.learning_curves import draw_curves_inline
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.federate.curves import read_curves
from flames_cli.stages.federate.validation import Validation, read_validation
from flames_cli.stages.report.gathering import Gathered, RunRecord
from flames_cli.stages.rounds import choose_round, read_run_rounds

MOST_CURVES = 3
"""Largest number of runs of a family whose curves are drawn."""


def training_section(gathered: Gathered) -> Section:
    """Return the section; the curves of a private run are means over its clients."""
    return Section("training", "Learning curves and the chosen round", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    if gathered.is_family:
        yield _family_table(gathered)
    for number, run in enumerate(gathered.runs[:MOST_CURVES]):
        yield from _run_blocks(run, f"curves-{number}", gathered)
    if (more := len(gathered.runs) - MOST_CURVES) > 0:
        yield Paragraph(f"The curves of {count(more, 'more run')} are in rounds.png of each run.", "faint")


def _run_blocks(run: RunRecord, name: str, gathered: Gathered) -> Iterator[Block]:
    of_family = gathered.is_family
    try:
        curves = read_curves(run.folder, run.config, run.lines)
        if gathered.private:
            curves = replace(curves, patients=0)
        yield Drawings(draw_curves_inline(curves, name))
        chosen = choose_round(read_run_rounds(run.folder, run.config), None)
        which = f"{run.folder.name}: the" if of_family else "The"
        yield Paragraph(f"{which} models of round {chosen.round} are used: {chosen.why}.")
        found = read_validation(run.folder, run.config, run.lines)
        if found and not of_family and run.config.dp_noise is None:
            yield _validation_table(found)
    except (FlamesError, ValueError) as error:
        yield Paragraph(f"No curves are shown: {gathered.hide_paths(str(error))}.", "faint")


def _validation_table(found: Validation) -> TextTable:
    both = found.best_round not in (None, found.last_round)
    titles = [f"round {found.best_round} (best)"] if both else []
    rows = [
        [
            row.label if row in found.clients or row is found.total else f"model {row.label}",
            row.modality,
            f"{row.patients:,} ({row.images:,})",
            *_dice([row.best, row.last] if both else [row.last]),
        ]
        for row in (*found.clients, *found.models, found.total)
    ]
    header = ["model of", "modality", "patients (images)", *titles, f"round {found.last_round} (last)"]
    rules = {len(found.clients), len(found.clients) + len(found.models)} - {0}
    return TextTable(
        "Validation Dice, mean over images", header, rows, 2, rules=frozenset(rules & set(range(len(rows))))
    )


def _dice(values: list[float | None]) -> list[str]:
    return ["none" if value is None else f"{value:.3f}" for value in values]


def _family_table(gathered: Gathered) -> TextTable:
    rows = []
    for run in gathered.runs:
        try:
            rounds = read_run_rounds(run.folder, run.config)
            chosen = choose_round(rounds, None)
            cells = [str(chosen.round), *_dice([chosen.validation_dice, chosen.last_validation_dice])]
        except FlamesError:
            cells = ["none"] * 3
        rows.append(
            [
                run.folder.name,
                str(run.seed),
                "–" if run.fold is None else str(run.fold),
                f"{run.rounds_done} of {run.config.rounds}",
                *cells,
                duration(sum(float(line.get("seconds", 0)) for line in run.lines)),
            ]
        )
    header = ["run", "seed", "fold", "rounds", "used round", "its Dice", "last Dice", "time"]
    note = "Dice: mean over the validation images of all clients."
    return TextTable("Runs", header, rows, 1, notes=[note])
