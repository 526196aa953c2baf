"""The tables of a comparison, in the width of the terminal: no number is wrapped or cut."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from flames_cli.cli.render_evaluation import plain_table
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.compare.grids import NAMES, difference_table, mean_table
from flames_cli.stages.compare.notes import notes_of

if TYPE_CHECKING:
    from flames_cli.stages.compare.files import Comparison

NARROWEST = 40
"""Smallest width in characters for which tables are laid out."""
NAME_WIDTH, WHAT_WIDTH = 22, 16
"""Largest widths of both columns of names; longer names are wrapped."""
FIRST_RUN = NAMES + 1
"""Column of the first run in a table of means."""
ONLY_IN_DETAIL = ("range of clients",)


def print_comparison(console: Console, result: "Comparison", detail: bool) -> None:
    """Print the tables of the chosen metrics; `detail` adds all lines, standard deviations and tests."""
    width = max(NARROWEST, console.width)
    for table in comparison_tables(result, detail, width):
        console.print(table)
    for note in notes_of(result):
        console.print(note, style="dim")
    if result.evaluated:
        console.print(f"evaluated first: {', '.join(result.evaluated)}", style="dim")
    if result.aside:
        console.print(f"an earlier comparison of other evaluations is now {result.aside}", soft_wrap=True)
    console.print(f"→ {result.folder}", style="cyan", soft_wrap=True)


def comparison_tables(result: "Comparison", detail: bool, width: int) -> Iterator[Group | str]:
    """Yield the tables of every chosen metric, at most `width` characters wide.

    Where the names of the runs do not fit, letters replace them; their legend comes before all tables.
    """
    tables, with_letters = [], False
    for option in result.metrics:
        for name in result.tables.tables:
            if result.tables.of(option, name):
                table = mean_table(result.tables, option, name, result.runs, with_sd=detail)
                blocks, letters = run_blocks(table, width)
                with_letters |= letters
                tables += [mean_block(table, block, letters, detail) for block in blocks]
        for table in _difference_tables(result, option, detail):
            letters = len(result.runs) > 2 and names_are_cut(table, width)
            with_letters |= letters
            tables.append(difference_block(_with_letters(table, result.runs) if letters else table, width))
    if with_letters:
        yield legend(result.runs, width)
    yield from tables


def legend(runs: Sequence[str], width: int) -> str:
    """Return the letters with the names for which they stand, as many in a line as fit."""
    lines = [""]
    for letter, run in zip(_letters(len(runs)), runs, strict=True):
        entry = f"{letter} {run}"
        if lines[-1] and len(lines[-1]) + 3 + len(entry) > width:
            lines.append("")
        lines[-1] += f"{'   ' if lines[-1] else ''}{entry}"
    return "\n".join(lines)


def _difference_tables(result: "Comparison", option: str, detail: bool) -> Iterator[TextTable]:
    if len(result.runs) == 1:
        return
    for penalised in (True, False) if detail else (True,):
        scores = [
            one
            for name in result.tables.tables
            for one in result.tables.of(option, name, penalised)
            if (detail or one.line.headline) and any(one.differences)
        ]
        for column in dict.fromkeys(one.column for one in scores):
            made = difference_table([one for one in scores if one.column == column], result.runs, detail)
            title = made.title if penalised else f"{made.title}; without missed cases"
            yield replace(made, title=title)


def _with_letters(table: TextTable, runs: Sequence[str]) -> TextTable:
    """Return a table of differences with letters for the names of the runs."""
    letter_of = {f"– {run}": f"– {letter}" for letter, run in zip(_letters(len(runs)), runs, strict=True)}
    return replace(table, rows=[[letter_of.get(row[0], row[0]), *row[1:]] for row in table.rows])


def run_blocks(table: TextTable, width: int) -> tuple[list[list[int]], bool]:
    """Divide the columns of the runs into blocks that fit into `width`; later blocks repeat the reference.

    Returns:
        The columns of each block, and whether letters must stand for the names of the runs: they do if they
            save a block.
    """
    columns = range(FIRST_RUN, len(table.header))
    cells = [max(len(row[column]) for row in table.rows) for column in columns]
    free = width - sum(_name_widths(table))
    names = [max(cell, len(table.header[column])) for cell, column in zip(cells, columns, strict=True)]
    short = [max(cell, len(letter)) for cell, letter in zip(cells, _letters(len(cells)), strict=True)]
    by_name, by_letter = _pack(names, free), _pack(short, free)
    letters = len(by_letter) < len(by_name) or any(1 + one > free for one in names)
    found = by_letter if letters else by_name
    return [[FIRST_RUN + index for index in block] for block in found], letters


def _pack(widths: Sequence[int], free: int) -> list[list[int]]:
    """Return blocks of indices whose widths, with a space each, fit into `free`; each begins with 0."""
    blocks, used = [[0]], widths[0] + 1
    for index in range(1, len(widths)):
        if used + widths[index] + 1 > free and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0] + 1
        blocks[-1].append(index)
        used += widths[index] + 1
    return blocks


def _name_widths(table: TextTable) -> list[int]:
    """Return the widths of the columns before the runs, each with a space."""
    name, what, n = _widths(table)[:FIRST_RUN]
    return [1 + min(name, NAME_WIDTH), 1 + min(what, WHAT_WIDTH), 1 + n]


def _letters(n: int) -> list[str]:
    return [ascii_uppercase[index % 26] + (str(index // 26) if index >= 26 else "") for index in range(n)]


def mean_block(table: TextTable, block: Sequence[int], letters: bool, detail: bool) -> Group:
    """Return some runs of a table of means, below its title."""
    shown = plain_table("")
    name, what, n = (width - 1 for width in _name_widths(table))
    shown.add_column(table.header[0], width=name, overflow="fold")
    shown.add_column(table.header[1], width=what, overflow="fold")
    shown.add_column(table.header[2], width=n, justify="right", no_wrap=True)
    short = _letters(len(table.header) - FIRST_RUN)
    for column in block:
        header = short[column - FIRST_RUN] if letters else table.header[column]
        widest = max(len(header), *(len(row[column]) for row in table.rows))
        shown.add_column(header, width=widest, justify="right", no_wrap=True)
    for number, row in enumerate(table.rows):
        if row[0] in ONLY_IN_DETAIL and not detail:
            continue
        cells = [
            Text(row[column], style="bold" if (number, column) in table.bold else "") for column in block
        ]
        shown.add_row(row[0], row[1], row[2], *cells)
    return Group(Text(table.title, style="italic"), shown)


def names_are_cut(table: TextTable, width: int) -> bool:
    """Return whether the names in the first column of a table of differences need more than one line."""
    longest, *numbers = _widths(table)
    return longest > width - sum(1 + one for one in numbers) - 1


def difference_block(table: TextTable, width: int) -> Group:
    """Return the table of differences below its title; only the names in its first column are wrapped."""
    shown = plain_table("")
    longest, *numbers = _widths(table)
    free = width - sum(1 + one for one in numbers) - 1
    shown.add_column(table.header[0], width=min(longest, free), overflow="fold")
    for name, widest in zip(table.header[1:], numbers, strict=True):
        shown.add_column(name, width=widest, justify="right", no_wrap=True)
    for number, row in enumerate(table.rows):
        cells = [
            Text(cell, style="bold" if (number, column) in table.bold else "")
            for column, cell in enumerate(row[1:], start=1)
        ]
        shown.add_row(row[0], *cells)
    return Group(Text(table.title, style="italic"), shown)


def _widths(table: TextTable) -> list[int]:
    """Return the width of each column: of its longest text."""
    columns = range(len(table.header))
    return [max(len(table.header[column]), *(len(row[column]) for row in table.rows)) for column in columns]
