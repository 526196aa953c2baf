"""Notes below the tables of a comparison: what was counted, what is missing, what the symbols mean."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flames_cli.core.patient_units import join_units
from flames_cli.stages.compare.metrics import COLUMNS, OPTIONS
from flames_cli.stages.compare.tables import missing_models

if TYPE_CHECKING:
    from flames_cli.stages.compare.files import Comparison

FEW_PATIENTS = 20
"""Number of patients below which bootstrap intervals are too narrow."""


def notes_of(result: "Comparison") -> Iterator[str]:
    """Yield the notes of a comparison, the most important ones first."""
    yield from result.notes
    lines = {one.line.id: one.line for one in result.tables.scores}.values()
    for run, models in missing_models([*lines], result.runs).items():
        yield f"{run} has no model {', '.join(models)}, which no mean over clients or patients contains"
    yield from _averaged_models(result)
    units = join_units(
        unit
        for evaluation in result.evaluations
        for of_split in evaluation.units.values()
        for unit in of_split.values()
    )
    yield f"n: {units}, (cases) if they are more; {_protocol_words(result)}"
    if any(COLUMNS[name].unit for option in result.metrics for name in OPTIONS[option] if "penal" in name):
        yield ("where a run finds nothing, a distance is the diagonal of the image: (number of such cases)")
    yield from _mixed_units(result)
    if len(result.runs) > 1:
        yield from _difference_notes(result, units)


def _replicates(result: "Comparison") -> Iterator[str]:
    """Yield what the intervals also draw: seeds, and folds of the server's models."""
    pooled = [one for one in result.evaluations if not one.options.get("ensemble")]
    if any(len({run.seed for run in one.runs}) > 1 for one in pooled):
        yield "seeds"
    if any(len({run.fold for run in one.runs}) > 1 for one in pooled):
        yield "folds (server models)"


def _averaged_models(result: "Comparison") -> Iterator[str]:
    """Yield a note for each run that has several models on one test set of the server."""
    found: dict[str, int] = {}
    for one in result.tables.scores:
        for run, sample in zip(result.runs, one.line.samples, strict=True):
            if sample and sample.units and one.line.kind == "model":
                found[run] = max(found.get(run, 1), len(sample.scores[0][0]))
    for run, number in found.items():
        if number > 1:
            yield f"{run} has {number} server models of one modality: the mean of their scores is shown"


def _mixed_units(result: "Comparison") -> Iterator[str]:
    """Yield a note if a table has distances in mm and in pixels."""
    for option in result.metrics:
        for table in result.tables.tables:
            units = {COLUMNS[one.column].unit for one in result.tables.of(option, table)}
            if len(units) > 1:
                yield f"{option}: no mean over rows in {' and '.join(sorted(units))}"
                break


def _protocol_words(result: "Comparison") -> str:
    if result.protocol == "slices":
        return "each selected image has one value, as in the paper"
    incomplete = sorted({name for one in result.evaluations for name in one.incomplete})
    words = "each volume and each still image has one value"
    if incomplete:
        words += f" (volumes of {', '.join(incomplete)} are not complete: one value for each slice)"
    return words


def _difference_notes(result: "Comparison", units: str) -> Iterator[str]:
    made = [difference for one in result.tables.scores for difference in one.differences if difference]
    over = ", ".join([*units.split(" and "), *_replicates(result)])
    over = " and ".join(over.rsplit(", ", 1))
    yield (
        f"difference: run − {result.runs[0]}, each of the {units} counts once; 95 % bootstrap interval over "
        f"{over}, too narrow for fewer than some {FEW_PATIENTS}"
    )
    numbers = ", ".join(f"{n} of {family}" for family, n in result.tables.families.items())
    yield f"p: sign-flip test, with Holm's correction for the comparisons ({numbers}); r: rank-biserial"
    if not all(difference.same_replicates for difference in made):
        yield "runs with other seeds are paired by case only, and their seeds are drawn separately"
