"""Predictions on the terminal: the first inputs, the totals, and where the files are."""

import math
import re
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flames_cli.cli.render import say_where
from flames_cli.cli.text import count, duration
from flames_cli.stages.predict.familiarity import SEEN

if TYPE_CHECKING:
    from flames_cli.stages.predict.stage import Predictions
    from flames_cli.stages.predict.truth import TruthSummary
    from flames_cli.store.prediction_folder import PredictedCase

SHOWN = 12
"""Number of inputs in the table; all are in cases.csv."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
SHOWN_REMARKS = 6
"""Number of different failures, and of different warnings, that are printed."""
TITLES = {
    "dice": "Dice",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
    "nsd_2mm": "NSD at 2 mm",
    "lesion_f1": "lesion F1",
}


def print_predictions(console: Console, made: "Predictions") -> None:
    """Print one screen: a line for each of the first inputs, failures, warnings, totals and paths."""
    done = [case for case in made.cases if case.status == "done"]
    for note in made.notes:
        console.print(note, style="yellow", soft_wrap=True)
    if made.aside:
        console.print(
            f"the earlier predictions, of other models or options, are called '{made.aside}' now",
            style="yellow",
            soft_wrap=True,
        )
    if done:
        console.print(_table(made, done))
        if len(done) > SHOWN:
            console.print(f"… and {count(len(done) - SHOWN, 'more input')}, in cases.csv", style="dim")
    _print_remarks(console, "failed: ", [(case.input, case.reason) for case in made.failed], "red")
    _print_remarks(console, "", [(case.input, line) for case in done for line in case.warnings], "yellow")
    if made.truth:
        _print_truth(console, made.truth)
    for kind, n in made.ignored.items():
        console.print(f"left out {count(n, 'file')}: {kind}", style="dim")
    console.print(_totals(made, done), style="bold", soft_wrap=True)
    say_where(console, made.folder / "cases.csv")
    if made.options.get("overlays") and done:
        say_where(console, made.folder / "overlays")
    if not made.truth and done:
        console.print(
            "next: look at the overlays; with true masks, add --truth FOLDER and a new --out",
            style="dim",
            soft_wrap=True,
        )


def _table(made: "Predictions", done: list["PredictedCase"]) -> Table:
    table = Table(title=f"tumours by {' and '.join(made.models)}", title_justify="left")
    table.add_column("input", overflow="fold")
    for name in ("size", "lesions", "largest", "mean p"):
        table.add_column(name, justify="right", no_wrap=True)
    if made.truth:
        table.add_column("Dice", justify="right", no_wrap=True)
    for case in done[:SHOWN]:
        row = [
            case.input,
            _size(case),
            str(case.n_lesions),
            _largest(case),
            _number(case.mean_probability, 2),
        ]
        if made.truth:
            row.append(_number(case.truth.dice if case.truth else None, 3))
        table.add_row(*row)
    return table


def _size(case: "PredictedCase") -> str:
    """Return the volume, the area, or the number of pixels where the spacing is unknown."""
    if case.volume_ml is not None:
        return f"{case.volume_ml:.1f} ml"
    if case.area_mm2 is not None:
        return f"{case.area_mm2:.0f} mm²"
    return f"{case.pixels} px"


def _largest(case: "PredictedCase") -> str:
    if case.largest_diameter_mm is not None:
        return f"{case.largest_diameter_mm:.0f} mm"
    return "–" if case.largest_diameter_px is None else f"{case.largest_diameter_px:.0f} px"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _print_remarks(console: Console, head: str, remarks: list[tuple[str, str]], style: str) -> None:
    """Print each kind of remark once, with the first of its inputs."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, remark in remarks:
        kinds.setdefault(_kind_of(remark), []).append((name, remark))
    for found in list(kinds.values())[:SHOWN_REMARKS]:
        names = dict.fromkeys(name for name, _ in found)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        line = _join([remark for _, remark in found])
        console.print(f"{head}{found[0][0]}{more}: {line}", style=style, soft_wrap=True)
    if len(kinds) > SHOWN_REMARKS:
        console.print(f"… and {len(kinds) - SHOWN_REMARKS} more, in cases.csv", style=style)


def _kind_of(remark: str) -> str:
    """Return a remark without the numbers of its input, if it compares them with those of training images."""
    own, seen, limits = remark.partition(SEEN)
    return _NUMBER.sub("#", own) + seen + limits if seen else remark


def _join(remarks: list[str]) -> str:
    """Return one line for remarks of one kind: numbers of the inputs that differ become ranges."""
    own, seen, limits = remarks[0].partition(SEEN)
    if not seen:
        return remarks[0]
    columns = zip(*(_NUMBER.findall(remark.partition(SEEN)[0]) for remark in remarks), strict=True)
    ranges = iter([(min(column, key=float), max(column, key=float)) for column in columns])

    def in_words(_: re.Match[str]) -> str:
        low, high = next(ranges)
        return low if low == high else f"{low} to {high}"

    return _NUMBER.sub(in_words, own) + seen + limits


def _print_truth(console: Console, truth: "TruthSummary") -> None:
    """Print the mean of each score with its interval."""
    people = f" of {count(truth.n_patients, 'patient')}" if truth.n_patients else ""
    console.print(f"scores of {count(truth.n, 'true mask')}{people}, in the geometry of the images:")
    table = Table()
    table.add_column("score")
    table.add_column("n", justify="right")
    table.add_column("mean (95 % interval)", justify="right", no_wrap=True)
    for name, found in truth.means.items():
        if found.n:
            limits = "" if math.isnan(found.low) else f" ({found.low:.3f} to {found.high:.3f})"
            table.add_row(TITLES[name], str(found.n), f"{found.mean:.3f}{limits}")
    console.print(table)


def _totals(made: "Predictions", done: list["PredictedCase"]) -> str:
    """Return the line of totals."""
    with_lesion = sum(case.pixels > 0 for case in done)
    parts = [f"{count(len(done), 'input')} done", f"{with_lesion} with a lesion"]
    if made.skipped:
        parts.append(f"{made.skipped} of them by an earlier command")
    parts.append(f"{len(made.failed)} failed")
    return f"{', '.join(parts)}, in {duration(made.seconds)}"
