"""Pictures of a comparison: the same cases as all runs predict them, and the paired differences."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from flames_cli.arrays import Mask
from flames_cli.learn.data import ShardDataset
from flames_cli.report.comparisons import DifferenceGroup, SideRow, draw_differences, draw_side_by_side
from flames_cli.stages.compare.files import Comparison
from flames_cli.stages.compare.grids import line_name
from flames_cli.stages.compare.inputs import Evaluated
from flames_cli.stages.compare.lines import TABLES, Line
from flames_cli.stages.compare.metrics import COLUMNS, Score
from flames_cli.stages.compare.tables import Scores, Tables
from flames_cli.stages.evaluate.files import PREDICTIONS_FILE
from flames_cli.stages.evaluate.models_under_test import list_held_out, read_held_out
from flames_cli.stages.evaluate.pictures import name_model, name_places
from flames_cli.store.evaluations import CaseScore, VolumeScore
from flames_cli.store.files.locks import reading_partition
from flames_cli.store.partition import open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.predictions import Predictions, open_predictions
from flames_cli.store.runs import run_folder

MOST_GROUPS = 40
"""Largest number of lines in the picture of differences; the others are in differences.csv."""


def draw_comparison(result: Comparison, found: Sequence[Evaluated], workspace: Path) -> None:
    """Draw the differences in every chosen metric, and the best, median and worst case of every model.

    The cases are those of the reference's first run, by its Dice. If this run was removed, only its
    evaluation is left, and its cases are not drawn.
    """
    for option in result.metrics:
        _draw_differences(result, option)
    for table in TABLES:
        picked = pick_cases(result.tables, found, table, workspace)
        rows = [SideRow(one.title, one.image, one.truth, one.masks, one.scores) for one in picked]
        if rows:
            name = table.removesuffix("s")
            draw_side_by_side(result.folder / f"overlays-{name}.png", rows, result.runs)


@dataclass(frozen=True, slots=True)
class PickedCase:
    """One test case as all runs predict it."""

    model: str
    """Name of the model, such as `client busi (US)`."""
    place: str
    """Words for its place among the cases of the model: best, median, worst."""
    case: str
    image: NDArray[Any]
    """H×W or H×W×3, in [0, 1]."""
    truth: Mask
    masks: list[Mask | None]
    """Predicted mask of each run; None if a run has no model for the case."""
    scores: list[str]
    """Dice of each run."""

    @property
    def title(self) -> str:
        """Model, place and case."""
        return f"{self.model}, {self.place}: {self.case}"


def pick_cases(
    tables: Tables, found: Sequence[Evaluated], table: str, workspace: Path
) -> Iterator[PickedCase]:
    """Yield the best, median and worst case of every model of a table, by the Dice of the reference's first
    run; nothing if that run was removed."""
    if not run_folder(workspace, found[0].content.runs[0].name).config.is_file():
        return
    with ExitStack() as stack:
        opened = [stack.enter_context(open_predictions(one.folder / PREDICTIONS_FILE)) for one in found]
        runs = [_Run(one, masks) for one, masks in zip(found, opened, strict=True)]
        yield from _pick_cases(tables, table, runs, workspace)


def _draw_differences(result: Comparison, option: str) -> None:
    scores = [
        one
        for table in TABLES
        for one in result.tables.of(option, table)
        if any(one.differences) and one.line.kind in ("model", "all")
    ]
    for column in dict.fromkeys(one.column for one in scores):
        kind = COLUMNS[column]
        groups = [_group(one) for one in scores if one.column == column]
        unit = f"difference in {kind.title}{f' ({kind.unit})' if kind.unit else ''}"
        better = "right" if kind.higher_is_better else "left"
        title = f"run − {result.runs[0]}: mean over patients, 95 % interval; better to the {better}"
        suffix = f"-{kind.unit}" if len({one.column for one in scores}) > 1 else ""
        path = result.folder / f"differences-{option}{suffix}.png"
        draw_differences(path, groups[:MOST_GROUPS], result.runs[1:], title, unit)


def _group(one: Scores) -> DifferenceGroup:
    factor = COLUMNS[one.column].scale
    n = max(made.test.n_patients for made in one.differences if made)
    points = [
        (factor * made.mean, factor * made.low, factor * made.high) if made else None
        for made in one.differences
    ]
    return DifferenceGroup(f"{line_name(one.line)} (n = {n})", points)


@dataclass(frozen=True, slots=True)
class _Run:
    """Evaluation of a run with its open predictions."""

    found: Evaluated
    masks: Predictions

    def predict(self, line: Line, case: CaseScore) -> tuple[Mask | None, str]:
        """Return the predicted mask of a case by the first model of the line that has it, and its Dice."""
        for number, one in enumerate(self.masks.sets):
            if (one.split, one.modality, one.unseen_site) != (case.split, line.modality, line.unseen_site):
                continue
            if line.table == "clients" and one.model != case.model:
                continue
            for row, unit in enumerate(zip(one.datasets, one.cases, strict=True)):
                if unit == (case.dataset, case.case):
                    (mask,) = self.masks.masks(number, [row])
                    return mask, self._score(one.run, one.model, case)
        return None, "no model"

    def _score(self, run: str, model: str, case: CaseScore) -> str:
        key = (run, model, case.split, case.dataset, case.case)
        dice = next(
            one.dice
            for one in self.found.cases
            if (one.run, one.model, one.split, one.dataset, one.case) == key
        )
        return f"Dice {dice:.2f}"


def _pick_cases(tables: Tables, table: str, runs: Sequence[_Run], workspace: Path) -> Iterator[PickedCase]:
    reference = runs[0].found
    lines = {one.line.id: one.line for one in tables.of("dice", table) if one.line.kind == "model"}
    for line in lines.values():
        picked = [*_pick(line, reference)]
        if not picked:
            continue
        data = _read_data(workspace, reference.content.runs[0].name, table, line)
        place = {(data.dataset(index), data.case(index).case): index for index in range(len(data))}
        for word, case in picked:
            image, truth = data.example(place[case.dataset, case.case])
            predicted = [run.predict(line, case) for run in runs]
            yield PickedCase(
                model=name_model(TABLES[table], line.label, line.modality),
                place=word,
                case=case.case,
                image=image,
                truth=truth,
                masks=[mask for mask, _ in predicted],
                scores=[score for _, score in predicted],
            )


def _pick(line: Line, reference: Evaluated) -> Iterator[tuple[str, CaseScore]]:
    """Yield the best, median and worst case of the reference's first run, each case once; of a volume its
    largest slice."""
    sample, first = line.samples[0], reference.content.runs[0].name
    if sample is None:
        return
    scores: list[Score] = [models[0] for row in sample.scores for models in row if models[0].run == first]
    ranked = sorted(scores, key=lambda score: -score.dice)
    if ranked:
        for place, words in name_places(len(ranked)).items():
            score = ranked[place]
            yield words, _largest_slice(score, reference) if isinstance(score, VolumeScore) else score


def _largest_slice(volume: VolumeScore, reference: Evaluated) -> CaseScore:
    """Return the slice of a volume with the largest true mask."""
    key = (volume.run, volume.split, volume.model, volume.dataset, volume.volume)
    slices = [
        one for one in reference.cases if (one.run, one.split, one.model, one.dataset, one.volume) == key
    ]
    return max(slices, key=lambda one: one.tp + one.fn)


def _read_data(workspace: Path, run: str, table: str, line: Line) -> ShardDataset:
    """Return the test set of a line, from the partition of `run`."""
    name = find_run_partition(workspace, run_folder(workspace, run))
    owner = line.label if table == "clients" else line.modality
    with reading_partition(workspace, name):
        partition = open_partition(workspace, name)
        for one in list_held_out(partition.folder, partition.content, TABLES[table]):
            if (getattr(one.entry, "name", one.entry.modality), one.unseen) == (owner, line.unseen_site):
                return read_held_out(one).data
    raise ValueError(f"got the line {line.label}, expected one with a test set in partition '{name}'")
