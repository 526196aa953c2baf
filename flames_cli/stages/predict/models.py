"""Models that predict: model folders, or models of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from flames_cli.arrays import Weights
from flames_cli.config import PredictConfig
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError
from flames_cli.readers.formats.ranges import family_of
from flames_cli.stages.export.making import make_client_model, make_server_model
from flames_cli.stages.export.source_runs import read_source_run
from flames_cli.stages.model_folders import find_model_folder
from flames_cli.stages.predict.preparing import ModelPreparation, preparation_of
from flames_cli.store.models import ModelInfo, read_model
from flames_cli.store.weights import hash_weights


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model with its weights."""

    info: ModelInfo
    weights: Weights
    sha256: str
    """Checksum of its weights."""
    preparation: ModelPreparation


def choose_models(config: PredictConfig) -> list[ChosenModel]:
    """Return the models that the user names, at least one.

    Raises:
        MissingArtifact: a model, or the run, is not there.
        FlamesError: no model is named, or both folders and a run are; a folder is damaged; or the models do
            not fit together.
    """
    if bool(config.models) == bool(config.run or config.client or config.modality):
        found = "both --model and a run" if config.models else "neither --model nor a run"
        raise FlamesError(
            f"got {found}, expected one of the two; pass --model NAME (a folder that `flames export` made), "
            "or --run RUN with --client NAME or --modality MODALITY"
        )
    if bool(config.client) == bool(config.modality) and not config.models:
        raise FlamesError(
            "got a run and not exactly one of --client and --modality, which choose its model; pass --client "
            "NAME for a personalised model, or --modality MODALITY for a server model"
        )
    pairs = [read_model(find_model_folder(config.workspace, named)) for named in config.models] or [
        _of_run(config)
    ]
    rule = rule_of(config)
    chosen = [
        ChosenModel(info, weights, info.sha256 or hash_weights(weights), preparation_of(info.input, rule))
        for info, weights in pairs
    ]
    _check_ensemble(chosen)
    return chosen


def rule_of(config: PredictConfig) -> IntensityRule | None:
    """Return the rule of intensities that the user chose; None: the model's own."""
    if config.window:
        return IntensityRule(window=config.window)
    if config.percentile is not None:
        return IntensityRule(percentile=config.percentile, percentile_of=config.percentile_of)
    return None


def _of_run(config: PredictConfig) -> tuple[ModelInfo, Weights]:
    run = read_source_run(config.workspace, config.run, config.round)
    if config.client:
        return make_client_model(run, config.client)
    return make_server_model(run, config.modality or "")


def _check_ensemble(models: Sequence[ChosenModel]) -> None:
    """Check that the models predict on the same images; architecture and size may differ.

    Raises:
        FlamesError: modality, channels, plane, or name differ.
    """
    first = models[0].info
    for other in (model.info for model in models[1:]):
        for what, one, two in (
            ("modality", family_of(first.input.modality), family_of(other.input.modality)),
            ("channels", first.input.channels, other.input.channels),
            ("plane", first.input.plane, other.input.plane),
        ):
            if one != two:
                raise FlamesError(
                    f"model {first.name} has the {what} {one} and model {other.name} {two}, expected models "
                    "of the same images, since the mean of their probabilities is taken; run the command "
                    "once for each"
                )
    if len({model.sha256 for model in models}) < len(models):
        raise FlamesError("a model is named twice, expected different models; pass each --model once")


def threshold_of(config: PredictConfig, models: Sequence[ChosenModel]) -> float:
    """Return the threshold that the user chose, else that of the models.

    Raises:
        FlamesError: the models have different thresholds, and the user chose none.
    """
    own = sorted({model.info.threshold for model in models})
    if config.threshold is not None:
        return config.threshold
    if len(own) > 1:
        raise FlamesError(
            f"the models have the thresholds {', '.join(f'{one:g}' for one in own)}, expected one for the "
            "mean of their probabilities; pass --threshold with a number"
        )
    return own[0]
