"""Output of `flames runs`: two lines for each run, so that no number is cut at 80 columns."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flames_cli.cli.text import count, duration, size
from flames_cli.store.workspace import list_partitions

if TYPE_CHECKING:  # these load the configuration
    from flames_cli.stages.runs.listing import RunEntry, RunGroup
    from flames_cli.stages.runs.removal import Removal

TITLES = ("rounds", "best (round)", "last", "time", "disk")
LEAST = (7, 12, 5, 6, 8)
"""Smallest widths of the columns after the name."""
SHOWN_PARTITIONS = 2
"""Largest number of partitions of a family that are all named."""
WIDTH, GAP = 80, "  "
"""Width of the table, and the text between its columns. A name for which no room is left has a line of its
own."""


def print_runs(console: Console, groups: "Sequence[RunGroup]", workspace: Path) -> None:
    """Print every run or family with its figures, and below its options; without any, the next command."""
    if not groups:
        console.print(f"no run in {workspace / 'runs'}", soft_wrap=True)
        console.print(f"next: {next_command(workspace)}", style="bold", soft_wrap=True)
        return
    rows = [_cells(group) for group in groups]
    widths = [max(map(len, (title, *cells))) for title, *cells in zip(TITLES, *rows, strict=True)]
    widths = [max(pair) for pair in zip(widths, LEAST, strict=True)]
    room = WIDTH - sum(len(GAP) + width for width in widths)
    name_width = min(room, max(len("run"), *(len(group.name) for group in groups)))
    console.print(_line("run", name_width, TITLES, widths), style="bold", soft_wrap=True)
    for group, cells in zip(groups, rows, strict=True):
        name = group.name
        if len(name) > name_width:
            console.print(name, soft_wrap=True)
            name = ""
        console.print(_line(name, name_width, cells, widths), soft_wrap=True)
        for line in _details(group):
            console.print(f"  {line}", style="dim")
        for one in group.members:
            if one.damage:
                console.print(f"  {_owner(group, one)}damaged: {one.damage}", style="red")
    console.print("best, last: validation Dice, mean over the images of all clients", style="dim")


def next_command(workspace: Path) -> str:
    """Return the command after which a workspace has a run, or is nearer to one."""
    if list_partitions(workspace):
        return "flames federate"
    return "flames partition" if any(workspace.glob("preprocessed/*.h5")) else "flames preprocess"


def _line(name: str, name_width: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return GAP.join((name.ljust(name_width), *shown))


def _cells(group: "RunGroup") -> tuple[str, ...]:
    members = group.members
    done = sum(one.rounds_done for one in members)
    rounds = f"{done}/{group.rounds_asked}" if group.rounds_asked else str(done)
    best = "-" if group.best is None else f"{group.best:.3f}"
    if group.best is not None and len(members) == 1:
        best += f" ({members[0].best_round})"
    return (
        rounds,
        best,
        "-" if group.last is None else f"{group.last:.3f}",
        duration(sum(one.seconds for one in members)),
        size(sum(one.size_bytes for one in members)),
    )


def _details(group: "RunGroup") -> Iterator[str]:
    members = group.members
    seeds = sorted({one.seed for one in members if one.seed is not None})
    plural = "" if len(seeds) == 1 else "s"
    found = [
        *(_distinct(one.strategy for one in members)),
        *(_distinct(one.model for one in members)),
        f"seed{plural} {','.join(map(str, seeds))}" if seeds else "",
        name_partitions(one.partition for one in members),
        *(_distinct(one.device for one in members)),
        f"{len(members)} of {count(members[0].planned, 'run')}" if group.name != members[0].name else "",
        "running now" if any(one.running for one in members) else "",
    ]
    if shown := ", ".join(filter(None, found)):
        yield shown


def name_partitions(partitions: Iterable[str]) -> str:
    """Return the names of few partitions, or the first and the last of many."""
    # The length makes cv-fold-10 follow cv-fold-9.
    names = sorted({name for name in partitions if name}, key=lambda name: (len(name), name))
    if len(names) > SHOWN_PARTITIONS:
        return f"partitions {names[0]} to {names[-1]}"
    return f"partition{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""


def _distinct(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _owner(group: "RunGroup", one: "RunEntry") -> str:
    return "" if one.name == group.name else f"{one.name} "


def print_removal(console: Console, removal: "Removal") -> None:
    """Print the runs that are to be removed, before the question."""
    for run in removal.runs:
        figures = f"{count(run.rounds_done, 'round')}, {size(run.size_bytes)}"
        console.print(f"{run.name}: {figures}", soft_wrap=True)
    console.print(f"{count(len(removal.runs), 'run')}, {size(removal.size_bytes)} in all")
    _print_kept(console, removal)


def print_removed(console: Console, removal: "Removal") -> None:
    """Print which runs were removed, and what stays."""
    names = ", ".join(run.name for run in removal.runs)
    console.print(f"removed {names}: {size(removal.size_bytes)} of the disk are free again", soft_wrap=True)
    _print_kept(console, removal)


def _print_kept(console: Console, removal: "Removal") -> None:
    for path in removal.inner:
        console.print(f"goes too: {path}, made by an earlier release", style="yellow", soft_wrap=True)
    for path in removal.results:
        console.print(f"stays: {path}, which was made from them", style="dim", soft_wrap=True)
