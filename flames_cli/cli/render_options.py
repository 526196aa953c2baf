"""Tables and notes on calibration, and on options of `flames evaluate` that change masks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flames_cli.cli.text import count
from flames_cli.store.evaluations import name_unseen, unseen_kind

if TYPE_CHECKING:  # it loads h5py, which `flames preprocess --help` has no use for
    from flames_cli.store.evaluations import EvaluationFile

LINE = 80
"""Largest number of characters of a line; of a longer one a terminal would divide an interval."""
Lines = Sequence[Mapping[str, Any]]
SPLITS = {"clients": "clients", "server": "server models"}


def option_tables(content: "EvaluationFile") -> Iterator[Table]:
    """Yield a table of the gains of options per split, if any option is on."""
    for name, title in SPLITS.items():
        if lines := content.tables.get(f"gains-{name}"):
            yield gain_table(f"{title}: Dice with an option minus without", lines)


def calibration_tables(content: "EvaluationFile") -> Iterator[Table]:
    """Yield a table of the calibration of the probabilities per split."""
    for name, title in SPLITS.items():
        if lines := content.tables.get(f"calibration-{name}"):
            yield calibration_table(f"{title}: calibration of the probabilities", lines)


def option_notes(content: "EvaluationFile") -> Iterator[str]:
    """Yield the choices that validation patients made, or were too few to make."""
    choices = [line for name in SPLITS for line in content.tables.get(f"choices-{name}", ())]
    for option in ("threshold", "postprocess"):
        own = [line for line in choices if line["option"] == option]
        made, kept = (_by_model(line for line in own if line["enough"] is enough) for enough in (True, False))
        if made:
            shown = (
                f"{model} {'/'.join(str(line['chosen']) for line in lines)}" for model, lines in made.items()
            )
            yield f"{option} by validation patients: {', '.join(shown)}"
        if kept:
            shown = (f"{model} ({_patients(lines)})" for model, lines in kept.items())
            yield f"{option}: the default, since validation patients are too few: {', '.join(shown)}"


def option_summary(content: "EvaluationFile") -> Iterator[str]:
    """Yield one line per option with its gain in Dice over images, and how many models were left as they are
    for want of validation patients."""
    gains = {name: content.tables.get(f"gains-{name}", ()) for name in SPLITS}
    for option in dict.fromkeys(line["option"] for lines in gains.values() for line in lines):
        shown = []
        for name, lines in gains.items():
            own = [line for line in lines if (line["option"], line["protocol"]) == (option, "slices")]
            if own:
                # The last line is that of all models together, or of the only model.
                limits = "" if math.isnan(_number(own[-1]["gain_low"])) else f" {_limits(own[-1])}"
                several = f", {_label(own[-1])}" if len(own) > 1 and " " not in own[-1]["model"] else ""
                shown.append(f"{name}{several} {_number(own[-1]['gain']):+.3f}{limits}")
        title = f"Dice per image gained by {option}:"
        line = f"{title} {', '.join(shown)}"
        yield line if len(line) <= LINE else "\n  ".join((title, *shown))
    choices = [line for name in SPLITS for line in content.tables.get(f"choices-{name}", ())]
    if kept := sum(not line["enough"] for line in choices):
        yield f"{kept} of {len(choices)} choices are the default: too few validation patients (--detail)"


def gain_table(title: str, lines: Lines) -> Table:
    """Return the table of paired gains in Dice, with their intervals over patients."""
    table = _table(title, ["model", "option", "of"], ["n", "without", "with", "gain", "[95 %]"])
    for line in lines:
        limits = "" if math.isnan(_number(line["gain_low"])) else _limits(line)
        patients = str(line["n"]) if line["n"] == line["patients"] else f"{line['patients']} ({line['n']})"
        dice = (f"{_number(line[name]):.3f}" for name in ("dice_without", "dice_with"))
        gain = f"{_number(line['gain']):+.3f}"
        table.add_row(_label(line), line["option"], line["protocol"], patients, *dice, gain, limits)
    return table


def calibration_table(title: str, lines: Lines) -> Table:
    """Return the table of the expected calibration error, over all pixels and over the relevant ones."""
    table = _table(title, ["model"], ["ECE", "ECE of p ≥ 0.01", "their share %"])
    for line in lines:
        share = 100 * line["relevant_pixels"] / line["pixels"]
        errors = (_number(line[name]) for name in ("ece", "relevant_ece"))
        cells = ("none" if math.isnan(error) else f"{error:.3f}" for error in errors)
        table.add_row(_label(line), *cells, f"{share:.1f}")
    return table


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold underline"
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _label(line: Mapping[str, Any]) -> str:
    model, unseen = str(line["model"]), str(line["unseen_site"])
    if unseen_kind(unseen) == "unseen sites":
        return f"{model} on {unseen} (unseen)"
    return name_unseen(model, unseen)


def _limits(line: Mapping[str, Any]) -> str:
    return f"[{_number(line['gain_low']):+.3f}, {_number(line['gain_high']):+.3f}]"


def _number(value: float | None) -> float:
    """Return a number of evaluation.json, where null is NaN."""
    return math.nan if value is None else value


def _by_model(lines: Iterator[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["model"], []).append(line)
    return found


def _patients(lines: Lines) -> str:
    return count(min(line["validation_patients"] for line in lines), "patient")
