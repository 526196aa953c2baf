"""End of `flames federate`: what the run did, the validation of its models, and the next command."""

import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flames_cli.cli.render import say_where
from flames_cli.cli.render_client_tests import print_client_tests
from flames_cli.cli.render_evaluation import NOT_PRIVATE, untitled_table
from flames_cli.cli.text import count, duration, epsilon_spent, size
from flames_cli.learn.train_options import ENOUGH_PATIENTS
from flames_cli.store import DEFAULT_WORKSPACE

if TYPE_CHECKING:  # these load torch and Flower
    from flames_cli.stages.federate.stage import FederationResult
    from flames_cli.stages.federate.validation import Validation, ValidationRow


def print_federation(
    console: Console, result: "FederationResult", rounds: int, one_of_several: bool = False
) -> None:
    """Print a summary of a run and its folder."""
    done = len(result.records) - result.resumed_from
    if done <= 0:
        advice = "" if one_of_several else "; raise --rounds to continue, or pass --fresh to start again"
        console.print(
            f"run '{result.run}' has {count(len(result.records), 'round')} already, {rounds} were asked "
            f"for{advice}"
        )
    else:
        records = result.records[result.resumed_from :]
        seconds = sum(record["seconds"] for record in records)
        after = f" after round {result.resumed_from}" if result.resumed_from else ""
        moved = sum(record["bytes_up"] + record["bytes_down"] for record in records)
        console.print(
            f"run '{result.run}': {count(done, 'round')}{after} in {duration(seconds)}, "
            f"{size(moved)} of weights moved"
        )
        for record in records:
            for client, reason in record["rejected"].items():
                console.print(f"round {record['round']}: {client} was rejected: {reason}", style="yellow")
            if unchanged := record["unchanged_groups"]:
                console.print(
                    f"round {record['round']}: the model of {', '.join(unchanged)} is unchanged: "
                    "no good report arrived",
                    style="yellow",
                )
    if result.records and "epsilon" in (last := result.records[-1]):
        console.print(f"privacy: {epsilon_spent(last)}, for each client; {NOT_PRIVATE}")
    if result.validation and not one_of_several:
        print_validation(console, result.run, result.validation)
    if result.tests:
        print_client_tests(console, result.tests)
    if kept := result.models_kept:
        console.print(f"{sum(kept.values())} of {count(len(kept), 'client')} have stored their own model")
    if chosen := result.chosen:
        console.print(f"flames evaluate takes round {chosen.round}: {chosen.why}", soft_wrap=True)
    say_where(console, result.folder)


def print_validation(console: Console, run: str, found: "Validation") -> None:
    """Print the validation Dice of each client and server model in the best and the last round."""
    console.print(f"validation Dice of run '{run}', mean over images", style="bold", soft_wrap=True)
    console.print(_validation_table(found))
    few = [row for row in found.clients if row.patients < ENOUGH_PATIENTS]
    if few:
        console.print(
            f"{len(few)} of {count(len(found.clients), 'client')} {'has' if len(few) == 1 else 'have'} fewer "
            f"than {ENOUGH_PATIENTS} validation patients, whose Dice may differ much by chance",
            style="dim",
        )


def _validation_table(found: "Validation") -> Table:
    table = untitled_table()
    table.add_column("client", overflow="fold")
    table.add_column("modality", overflow="fold")
    table.add_column("patients (images)", justify="right", no_wrap=True)
    both = found.best_round not in (None, found.last_round)
    titles = [f"best, round {found.best_round}"] if both else []
    is_best = " and best" if found.best_round == found.last_round else ""
    for title in (*titles, f"last{is_best}, round {found.last_round}"):
        table.add_column(title, justify="right", no_wrap=True)

    def add(label: str, row: "ValidationRow", style: str = "") -> None:
        dice = [row.best, row.last] if both else [row.last]
        cells = ["none" if value is None else f"{value:.3f}" for value in dice]
        table.add_row(label, row.modality, f"{row.patients} ({row.images})", *cells, style=style)

    for row in found.clients:
        add(row.label, row)
    for row in found.models:
        add(f"model {row.label}, {count(row.n_clients, 'client')}", row, "bold")
    if len(found.models) != 1:
        add("all clients", found.total, "bold")
    return table


def print_family(console: Console, name: str, results: "Sequence[FederationResult]") -> None:
    """Print a line for each run of a family: its rounds and its validation Dice, with their mean."""
    rows = [(result.run, len(result.records), result.validation) for result in results]
    if not any(found for _, _, found in rows):
        return
    title = f"validation Dice of the runs of '{name}', mean over images of all clients"
    console.print(title, style="bold", soft_wrap=True)
    table = untitled_table()
    table.add_column("run", overflow="fold")
    for title in ("rounds", "patients", "best (round)", "last"):
        table.add_column(title, justify="right", no_wrap=True)
    for run, rounds, found in rows:
        table.add_row(run, str(rounds), *(_family_cells(found) if found else ["none"] * 3))
    totals = [found.total for _, _, found in rows if found]
    if len(totals) > 1:
        best, last = [row.best for row in totals], [row.last for row in totals]
        table.add_row("mean±sd", "", "", _mean_sd(best), _mean_sd(last), style="bold")
    console.print(table)


def _family_cells(found: "Validation") -> Iterator[str]:
    yield str(found.total.patients)
    yield "none" if found.total.best is None else f"{found.total.best:.3f} ({found.best_round})"
    yield "none" if found.total.last is None else f"{found.total.last:.3f}"


def _mean_sd(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation; "none" if a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "none"
    return f"{statistics.mean(known):.3f}±{statistics.stdev(known):.3f}"


def print_next(console: Console, name: str, workspace: Path) -> None:
    """Print the command that evaluates a run or a family."""
    words = ["flames", "evaluate", "--run", name]
    if workspace != DEFAULT_WORKSPACE:
        words += ["--workspace", str(workspace)]
    console.print(f"next: {shlex.join(words)}", style="bold", soft_wrap=True)


def federation_json(result: "FederationResult") -> dict[str, Any]:
    """Return a finished run as a JSON object."""
    return {
        "run": result.run,
        "folder": str(result.folder),
        "resumed_from": result.resumed_from,
        "rounds": result.records,
        **({"models_kept": result.models_kept} if result.models_kept else {}),
        **({"notes": result.notes} if result.notes else {}),
        **({"validation": asdict(result.validation)} if result.validation else {}),
        **({"chosen_round": result.chosen.as_json()} if result.chosen else {}),
        **({"final_models": result.final} if result.final else {}),
        **({"client_tests": result.tests} if result.tests else {}),
    }
