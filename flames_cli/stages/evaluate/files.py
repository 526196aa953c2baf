"""Folder of an evaluation: scores, tables, predicted masks, pictures and evaluation.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError
from flames_cli.report.calibration import draw_reliability
from flames_cli.report.figures import OverlayRow, draw_overlays
from flames_cli.stages.evaluate.cross_site import CrossSite
from flames_cli.stages.evaluate.details import Details, reliability_curves
from flames_cli.stages.evaluate.pictures import overlay_name
from flames_cli.stages.evaluate.rows import Row
from flames_cli.stages.evaluate.tables import Tables
from flames_cli.store.evaluation_details import (
    CALIBRATION,
    FROC,
    OPTIONS,
    CalibrationBin,
    FrocScore,
    OptionScore,
)
from flames_cli.store.evaluations import (
    CASES,
    METRIC_FACTS,
    SUMMARY,
    VOLUMES,
    CaseScore,
    EvaluatedRun,
    EvaluationFile,
    VolumeScore,
    read_evaluation_file,
    write_case_scores,
    write_evaluation_file,
    write_rows,
    write_volume_scores,
)
from flames_cli.store.files.aside import keep_others, set_aside
from flames_cli.store.files.atomic import replacing_folder, write_csv
from flames_cli.store.files.locks import in_turn
from flames_cli.store.predictions import PredictionSpool

PREDICTIONS_FILE = "predictions.h5"
RELIABILITY_PICTURE = "calibration.png"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of `flames evaluate`: evaluation.json, the rows of its tables, and the folder of all files."""

    content: EvaluationFile
    tables: Tables
    folder: Path
    cross_site: CrossSite | None = None
    """Scores of every client's model on every client's test set, if they were asked for."""
    aside: str = ""
    """Name that an earlier evaluation of other models or options has now; empty: there was none."""

    @property
    def run(self) -> str:
        """Name of the run or family."""
        return self.content.run

    @property
    def is_ensemble(self) -> bool:
        """True if the runs are one model, with the mean of their probabilities."""
        return bool(self.content.options.get("ensemble"))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs, each once; that of the first run for an ensemble, which is one model."""
        if self.is_ensemble:
            return (self.content.runs[0].seed,)
        return tuple(dict.fromkeys(run.seed for run in self.content.runs))

    def replicates(self, split: str) -> str:
        """Return what the values of one case differ in: seeds, folds, or both; empty if it has one value.

        A client's case is tested in one fold, and the server's cases in each.
        """
        folds = {run.fold for run in self.content.runs} if split == "server_test" else set()
        several = {"seeds": len(self.seeds) > 1, "folds": len(folds) > 1 and not self.is_ensemble}
        return " and ".join(name for name, wanted in several.items() if wanted)

    @property
    def clients(self) -> Sequence[Row]:
        """Rows of every client's personalised model on the images of its own test set."""
        tables = self.tables.splits.get("client_test")
        return tables.images if tables else ()

    @property
    def server(self) -> Sequence[Row]:
        """Rows of every server model on the images of unseen patients of its modality, by organ; unseen sites
        are separate rows."""
        tables = self.tables.splits.get("server_test")
        return tables.images if tables else ()


def write_evaluation(
    result: Evaluation,
    cases: Sequence[CaseScore],
    volumes: Sequence[VolumeScore],
    masks: PredictionSpool,
    details: Details,
    overlays: Mapping[str, Sequence[OverlayRow]],
) -> Evaluation:
    """Write the folder of the evaluation; it takes its place in one step.

    An earlier result of the same name is replaced if it belongs to the same models and options, which give
    the same files; its other files, such as pictures that this call does not draw, are kept. A result of
    other models is renamed.

    Returns:
        The evaluation, with the new name of an earlier one of other models.
    """
    folder, aside = result.folder, None
    with in_turn(folder):
        same = has_same_models(folder, result.content)
        with replacing_folder(folder) as new:
            write_case_scores(new / CASES, cases)
            write_volume_scores(new / VOLUMES, volumes)
            for name, lines in result.content.tables.items():
                _write_table(new / f"{name}.csv", lines)
            masks.write(new / PREDICTIONS_FILE)
            if result.cross_site:
                result.cross_site.write(new, result.content.run, picture=bool(overlays))
            _write_details(new, details)
            if overlays:
                _draw(new, result.content, details, overlays)
            write_evaluation_file(new / SUMMARY, result.content)
            if same:
                keep_others(folder, new)
            else:
                aside = set_aside(folder)
    return replace(result, aside=aside.name if aside else "")


def has_same_models(folder: Path, content: EvaluationFile, at_least: bool = False) -> bool:
    """Return whether the folder has an evaluation of the same models with the same options.

    It may have fewer metrics of plug-ins, which a new one adds; with `at_least` it must have all, and may
    have more.
    """
    try:
        earlier = read_evaluation_file(folder / SUMMARY)
    except FlamesError:  # none yet, a damaged one, or one of another release
        return False
    there, wanted = (one.options.get(METRIC_FACTS, {}) for one in (earlier, content))
    fewer, more = (wanted, there) if at_least else (there, wanted)
    same_metrics = all(more.get(name) == facts for name, facts in fewer.items())
    return same_metrics and _models_and_options(earlier) == _models_and_options(content)


def _models_and_options(content: EvaluationFile) -> tuple[object, ...]:
    """Return what decides the scores; the asked round does so by the round of each run.

    Metrics of plug-ins are columns of their own.
    """
    options = {name: value for name, value in content.options.items() if name not in ("round", METRIC_FACTS)}
    return content.run, [run.models for run in content.runs], options


def _caption(run: EvaluatedRun) -> str:
    return run.name if run.is_from_file else f"{run.name}, round {run.round}"


def _write_details(folder: Path, details: Details) -> None:
    write_rows(folder / CALIBRATION, CalibrationBin, details.bins)
    write_rows(folder / FROC, FrocScore, details.froc)
    if details.before:
        write_rows(folder / OPTIONS, OptionScore, details.before)


def _write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    header = list(lines[0])
    write_csv(path, header, [[_cell(line[column]) for column in header] for line in lines])


def _cell(value: Any) -> Any:
    """Return what the CSV has for `value`: an empty cell for a number that is not defined."""
    if isinstance(value, list):
        return " ".join(str(_cell(one)) for one in value)
    return "" if isinstance(value, float) and math.isnan(value) else value


def _draw(
    folder: Path,
    content: EvaluationFile,
    details: Details,
    overlays: Mapping[str, Sequence[OverlayRow]],
) -> None:
    first = content.runs[0]
    for split, rows in overlays.items():
        draw_overlays(folder / overlay_name(split), rows, _caption(first))
    curves = reliability_curves(details.bins)
    draw_reliability(folder / RELIABILITY_PICTURE, curves, f"calibration of {content.run}")
