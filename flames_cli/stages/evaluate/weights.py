"""`flames evaluate --weights`: a model that no run of this workspace has made, as if it were a run's."""

import re
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.config import MAX_NAME, EvaluateConfig
from flames_cli.core.federated.best_round import RoundScores
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.evaluate.loading import Loaded, LoadedRun
from flames_cli.stages.models.weights_files import WeightsFacts, is_weights_file, read_weights_file
from flames_cli.stages.rounds import ChosenRound, Rounds
from flames_cli.store.evaluations import FROM_FILE
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.models import WEIGHTS, ModelInfo, read_model
from flames_cli.store.partition import NamedPartition, open_partition
from flames_cli.store.runs import run_folder
from flames_cli.store.workspace import DEFAULT_PARTITION

BY_MODALITY = "fedavg-modality"
"""Strategy whose models have the names of modalities; nothing of it is used but these."""


def load_weights(config: EvaluateConfig, path: Path) -> Loaded:
    """Return the model in a file of weights, or in a model folder, as the server model of its modality.

    Raises:
        MissingArtifact: there is no such partition or file.
        FlamesError: other options need a run; the architecture or the modality is not named; the weights do
            not fit; or the partition has no test set of the modality, or images of another size.
    """
    _check_options(config)
    partition = open_partition(config.workspace, config.partition or DEFAULT_PARTITION)
    info, weights = _read(config, path, partition)
    modality = _find_modality(info.input.modality, partition)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"weights-{info.name}")[:MAX_NAME].rstrip("-.")
    made = info.architecture
    segmenter = Segmenter(
        made.model, made.options, config.device, config.precision, config.batch_size, made.norm
    )
    chosen = ChosenRound(round=0, last=0, asked=FROM_FILE, why=f"weights of {path.name}")
    run = LoadedRun(
        folder=run_folder(config.workspace, name),
        strategy=made.model,
        algorithm=get_algorithm(BY_MODALITY),
        state=State(round=0, server={modality: weights}),
        checkpoint=hash_file(path / WEIGHTS if path.is_dir() else path),
        segmenter=segmenter,
        chosen=chosen,
        rounds=Rounds(name, [0], RoundScores(), frozenset()),
        seed=config.seed,
        fold=None,
        partition=partition,
    )
    return Loaded(name, [run])


def _check_options(config: EvaluateConfig) -> None:
    """Raise FlamesError if another option needs a run."""
    needs_run = {
        "--run": config.run,
        "--round": config.round,
        "--client-test": config.client_test,
        "--cross-site": config.cross_site,
        "--on": config.on,
        "--ensemble": config.ensemble,
        "--threshold auto": config.threshold == "auto",
        "--postprocess auto": config.postprocess == "auto",
    }
    if given := [option for option, value in needs_run.items() if value]:
        raise FlamesError(
            f"got --weights and {given[0]}, which needs the clients of a run; leave one of the two out"
        )


def _read(config: EvaluateConfig, path: Path, partition: NamedPartition) -> tuple[ModelInfo, Weights]:
    """Return the model of a folder, or of a file of weights with the options that describe it."""
    if path.is_dir() or not is_weights_file(path):
        info, weights = read_model(path)
        images = partition.content
        if (info.input.size, info.input.channels) != (images.size, images.channels):
            raise FlamesError(
                f"model {info.name} is for images of {info.input.size} pixels and {info.input.channels} "
                f"channels, and those of partition '{partition.name}' have {images.size} and "
                f"{images.channels}; preprocess with --size {info.input.size}, and pass that --partition"
            )
        return info, weights
    if config.model is None or config.modality is None:
        missing = "--model, its architecture," if config.model is None else "--modality"
        raise FlamesError(
            f"--weights {path.name} does not say what it is, expected {missing} too; pass both, such as "
            "--model densenet-unet --modality MRI"
        )
    facts = WeightsFacts(
        config.model,
        config.modality,
        partition.content.size,
        partition.content.channels,
        config.norm,
        config.model_options,
    )
    return read_weights_file(path, facts, path.stem)


def _find_modality(wanted: str, partition: NamedPartition) -> str:
    """Return the modality of the server's test sets that equals `wanted`, in any case."""
    tested = [one.modality for one in partition.content.server if any(one.images.values())]
    known = [modality for modality in partition.content.modalities if modality in tested]
    for modality in known:
        if modality.lower() == wanted.lower():
            return modality
    raise FlamesError(
        f"got weights for {wanted}, expected a modality of the server's test sets in partition "
        f"'{partition.name}': {', '.join(known) or 'there is none'}; pass another --modality or --partition"
    )
