"""Ensembles: the server models of all runs of a family, with the mean of their probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flames_cli.config import EvaluateConfig
from flames_cli.errors import FlamesError
from flames_cli.learn.segment import Ensemble
from flames_cli.stages.evaluate.loading import Loaded, LoadedRun
from flames_cli.stages.evaluate.models_under_test import HeldOut, ModelUnderTest, find_models_under_test
from flames_cli.store.runs import RunFolder


def check_ensemble(config: EvaluateConfig, loaded: Loaded) -> None:
    """Check that the options fit an ensemble.

    Raises:
        FlamesError: there is one run only, client models are asked for, or validation patients should choose
            how masks are made: in another fold a model was trained on them.
    """
    if len(loaded.runs) < 2:
        raise FlamesError(
            f"got --ensemble and one finished run of '{loaded.name}', expected several; pass --run with the "
            "name of runs with several --seeds or --folds, or leave --ensemble out"
        )
    if config.client_test or config.cross_site:
        asked = "--client-test" if config.client_test else "--cross-site"
        raise FlamesError(
            f"got --ensemble with {asked}, expected the server's test patients alone: a fold's client "
            f"models were trained on the test patients of the others; leave {asked} out"
        )
    if config.on:
        raise FlamesError(
            "got --ensemble with --on, expected models on the modality that they were trained on; leave one "
            "of the two out"
        )
    if config.threshold == "auto" or config.postprocess == "auto":
        asked = "--threshold auto" if config.threshold == "auto" else "--postprocess auto"
        raise FlamesError(
            f"got --ensemble with {asked}, which chooses on validation patients: runs of other folds were "
            f"trained on them; leave {asked} out"
        )


def find_ensembles(
    family: str, runs: Sequence[LoadedRun], held_out: HeldOut
) -> Iterator[tuple[LoadedRun, ModelUnderTest]]:
    """Yield each server model of the test set once, as the ensemble of the models of all `runs`.

    Its run is the first one, under the name of the family. Models that some runs do not have are left out.
    """
    members: dict[str, list[tuple[LoadedRun, ModelUnderTest]]] = {}
    for run in runs:
        for model in find_models_under_test(held_out, run.partition.content, run.algorithm, run.state):
            members.setdefault(model.label, []).append((run, model))
    for own in members.values():
        if len(own) < len(runs):
            continue
        first, model = own[0]
        segmenter = Ensemble([(run.segmenter, one.weights) for run, one in own])
        folder = RunFolder(first.folder.path.with_name(family))
        yield replace(first, folder=folder, fold=None, segmenter=segmenter), replace(model, weights={})
