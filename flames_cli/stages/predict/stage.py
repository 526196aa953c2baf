"""`flames predict`: images that no stage has seen → masks in the geometry of the images, and a table."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import PredictConfig
from flames_cli.core.scores.extra_metrics import extra_metrics
from flames_cli.errors import FlamesError, list_faults
from flames_cli.learn.model_plugins import require_model_plugin
from flames_cli.learn.predict import MaskRule
from flames_cli.readers.inputs import FoundInputs, find_inputs
from flames_cli.stages.predict.files import open_folder
from flames_cli.stages.predict.models import ChosenModel, choose_models, threshold_of
from flames_cli.stages.predict.truth import TruthSource, TruthSummary, find_truth, summarise_truth
from flames_cli.stages.predict.work import Work
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.evaluations import METRIC_FACTS
from flames_cli.store.files.locks import locked
from flames_cli.store.prediction_folder import PredictedCase, PredictionFile, case_json
from flames_cli.store.workspace import prediction_folder


@dataclass(frozen=True, slots=True)
class Predictions:
    """Result of one command."""

    folder: Path
    models: tuple[str, ...]
    cases: tuple[PredictedCase, ...]
    """The inputs of this command, in order."""
    skipped: int
    """Number of them that were done before."""
    options: dict[str, Any]
    aside: str = ""
    """Name that an earlier prediction of other models or options has now; empty: there was none."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Number of files that are no images, by kind."""
    truth: TruthSummary | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """Remarks on the models, such as another version of a plug-in."""

    @property
    def failed(self) -> list[PredictedCase]:
        """The inputs without a mask."""
        return [case for case in self.cases if case.status == "failed"]

    def as_json(self) -> dict[str, Any]:
        """Return the result for --json."""
        return {
            "folder": str(self.folder),
            "models": list(self.models),
            "options": self.options,
            "inputs": len(self.cases),
            "done": len(self.cases) - len(self.failed),
            "failed": len(self.failed),
            "skipped": self.skipped,
            "aside": self.aside or None,
            "ignored": self.ignored,
            "truth": asdict(self.truth) if self.truth else None,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "cases": [case_json(case) for case in self.cases],
        }


def predict(config: PredictConfig, progress: Progress = silent) -> Predictions:
    """Predict the masks of all inputs, and write them with tables and pictures to one folder.

    Inputs that are done in that folder with the same models and options, and whose bytes are the same, are
    skipped. An input that fails does not end the others.

    Raises:
        MissingArtifact: a model or a run is not there.
        FlamesError: an option is wrong, no image was found, or the folder is in use.
        NotWritten: the disk is full.
    """
    start = time.perf_counter()
    if not config.inputs:
        raise FlamesError("got no image, expected files, folders or a manifest; name them after the options")
    models = choose_models(config)
    notes = [note for model in models for note in require_model_plugin(model.info)]
    found = find_inputs(config.inputs, config.root, config.keep_columns)
    truth = find_truth(config.truth, found.inputs, config.labels)
    rule = MaskRule(threshold_of(config, models), config.tta, config.postprocess == "largest")
    _require_rules(models, found)
    content = PredictionFile(_name_models(models), _options(config, models, rule, truth), __version__)
    path = config.out or prediction_folder(config.workspace, "+".join(content.models))
    with locked(path, f"another process predicts into {path}; wait for its end, or pass another --out"):
        folder = open_folder(path, content)
        work = Work(config, models, truth, rule, folder)
        cases, skipped = [], 0
        for done, (case, is_old) in enumerate(work.run(found.inputs), start=1):
            cases.append(case)
            skipped += is_old
            progress("predict", done, len(found.inputs))
        folder.finish(cases)
    _require_one_done(cases)
    return Predictions(
        folder=path,
        models=tuple(content.models),
        cases=tuple(cases),
        skipped=skipped,
        options=dict(content.options),
        aside=folder.aside,
        ignored=dict(found.ignored),
        truth=summarise_truth(cases, config.seed),
        seconds=time.perf_counter() - start,
        notes=tuple(dict.fromkeys(notes)),
    )


def _require_rules(models: Sequence[ChosenModel], found: FoundInputs) -> None:
    """Check that every model has one rule for the intensities of volumes, if all inputs are volumes; among
    other inputs, volumes fail one by one.

    Raises:
        FlamesError: it has none, or several.
    """
    if not all(image.is_volume for image in found.inputs):
        return
    for model in models:
        if model.preparation.intensities is None:
            rules = model.info.input.intensities
            stated = f"{len(rules)} rules ({'; '.join(map(str, rules))})" if rules else "no rule"
            raise FlamesError(
                f"model {model.info.name} states {stated} for the intensities of volumes, expected one rule; "
                "pass --window LOW,HIGH or --percentile NUMBER, as its images were preprocessed"
            )


def _require_one_done(cases: Sequence[PredictedCase]) -> None:
    """Check that not every input failed.

    Raises:
        FlamesError: all did.
    """
    if all(case.status == "failed" for case in cases):
        reasons = list_faults([f"{case.input}: {case.reason}" for case in cases])
        raise FlamesError(f"none of the {len(cases)} inputs could be predicted ({reasons}); correct them")


def _name_models(models: Sequence[ChosenModel]) -> dict[str, str]:
    """Return the checksum of each model by a name that is unique."""
    names: dict[str, str] = {}
    for model in models:
        name, number = model.info.name, 1
        while name in names:
            number += 1
            name = f"{model.info.name}-{number}"
        names[name] = model.sha256
    return names


def _options(
    config: PredictConfig, models: Sequence[ChosenModel], rule: MaskRule, truth: TruthSource | None
) -> dict[str, Any]:
    """Return the options that change the masks, the table or the files.

    Raises:
        FlamesError: a metric is not known, or there are no true masks to compute it with.
    """
    own = config.metrics
    if own and truth is None:
        raise FlamesError(
            f"got --metric {own[0]} without --truth, expected true masks to compare with; pass --truth "
            "FOLDER, or leave --metric out"
        )
    return {
        "threshold": rule.threshold,
        "tta": rule.tta,
        "postprocess": config.postprocess,
        "probabilities": config.probabilities,
        "overlays": config.overlays,
        "any_modality": config.any_modality,
        "preparation": [_plain(asdict(model.preparation)) for model in models],
        "truth": None if truth is None else (config.truth or "manifest"),
        "labels": list(config.labels),
        "keep_columns": list(config.keep_columns),
        **({METRIC_FACTS: {one.name: one.facts for one in extra_metrics(config.metrics)}} if own else {}),
    }


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
