"""`flames tsne`: shards (and a run, for deep features) → a map of the clients' training images (the paper's
Figure 6)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.config import EvaluateConfig, TsneConfig
from flames_cli.core.rng import derive_rng
from flames_cli.core.scores.embedding import embed, separation, thumbnail_features
from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.report.figures import draw_embedding
from flames_cli.stages.evaluate.loading import LoadedRun, load_run
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.rounds import choose_round
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import replacing_folder, write_csv, write_json
from flames_cli.store.files.locks import in_turn, reading_partition
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import ClientEntry, NamedPartition, checked_shard, open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import find_run
from flames_cli.store.schema import EMBEDDING, read_json, stamp
from flames_cli.store.workspace import DEFAULT_PARTITION, map_folder

SUMMARY = "tsne.json"


@dataclass(frozen=True, slots=True)
class Map:
    """Result: the source of the features, and how well modalities and clients separate."""

    features: str
    run: str | None
    models: int
    """Number of networks that the features come from; with more than one their spaces differ, and separation
    is overstated."""
    images: dict[str, int]
    """Number of images by client."""
    silhouette_modality: float | None
    """Silhouette of the features from which t-SNE started, in [-1, 1]; None with one modality."""
    silhouette_modality_map: float | None
    """Silhouette of the two-dimensional map."""
    silhouette_client: float | None
    folder: Path
    files: list[str]
    round: int | None = None
    """Round of the models that made deep features."""
    why: str = ""
    """Reason for the choice of this round."""
    partition: str = DEFAULT_PARTITION
    """Present name of the partition whose images are drawn."""
    aside: str = ""
    """New name of a map of other data that had this name before; empty if there was none."""


def tsne(config: TsneConfig, progress: Progress = silent) -> Map:
    """Embed the clients' training images and draw them twice: by modality and by client.

    Raises:
        MissingArtifact: there is no partition, or no run for deep features.
        FlamesError: there are too few images, or all are alike.
    """
    _check_options(config)
    name = config.partition or DEFAULT_PARTITION
    if config.features == "deep":
        name = find_run_partition(config.workspace, find_run(config.workspace, config.run))
    with reading_partition(config.workspace, name):
        return _draw_map(config, open_partition(config.workspace, name), progress)


def _check_options(config: TsneConfig) -> None:
    """Check that a run or a round is given only for the features of its model, and a partition only for
    pixels.

    Raises:
        FlamesError: one of them is given for the other features.
    """
    if config.partition is not None and config.features == "deep":
        raise FlamesError(
            f"got --partition {config.partition} with --features deep, which are those of the images on "
            "which the run was made; leave --partition out, or pass --features pixels"
        )
    unused = [f"--{key} {value}" for key in ("run", "round") if (value := getattr(config, key)) is not None]
    if unused and config.features == "pixels":
        raise FlamesError(
            f"got {' and '.join(unused)} with --features pixels, which are those of the images alone; pass "
            "--features deep, or leave it out"
        )


def _draw_map(config: TsneConfig, partition: NamedPartition, progress: Progress) -> Map:
    run = None
    if config.features == "deep":
        options = EvaluateConfig(workspace=config.workspace, device=config.device, round=config.round)
        run = load_run(options, config.run)
    features, chosen = _gather(config, partition, run, progress)
    modalities = [entry.modality for entry, _ in chosen]
    clients = [entry.name for entry, _ in chosen]
    progress("t-SNE", 0, 1)
    try:
        places = embed(features, config.seed, config.perplexity)
    except ValueError as error:
        raise FlamesError(f"cannot draw the map: {error}") from error
    progress("t-SNE", 1, 1)
    made = Map(
        features=config.features,
        run=run.folder.name if run else None,
        models=len(run.state.server) if run else 0,
        images={entry.name: clients.count(entry.name) for entry in partition.content.clients},
        silhouette_modality=separation(features, modalities),
        silhouette_modality_map=separation(places, modalities),
        silhouette_client=separation(features, clients),
        folder=map_folder(config.workspace, _name_of(config, partition, run)),
        files=["embedding.csv", "tsne.png", "tsne.svg", SUMMARY],
        round=run.chosen.round if run else None,
        why=run.chosen.why if run else "",
        partition=partition.name,
    )
    data = _data_of(config, partition, run)
    with in_turn(made.folder):
        same = _has_same_data(made.folder, data)
        with replacing_folder(made.folder) as folder:
            _write(folder, made, data, places, chosen)
            aside = None if same else set_aside(made.folder)
    return replace(made, aside=aside.name if aside else "")


def _name_of(config: TsneConfig, partition: NamedPartition, run: LoadedRun | None) -> str:
    """Return the name of the map: its features, with what differs from the default."""
    if config.name:
        return config.name
    if run is None:
        return "pixels" if partition.name == DEFAULT_PARTITION else f"pixels-{partition.name}"
    parts = ["deep", run.folder.name]
    if config.round is not None and run.chosen.round != choose_round(run.rounds, None).round:
        parts.append(f"round-{config.round}" if isinstance(config.round, int) else str(config.round))
    return "-".join(parts)


def _data_of(config: TsneConfig, partition: NamedPartition, run: LoadedRun | None) -> dict[str, Any]:
    """Return all that decides the places on a map."""
    return {
        "partition_sha256": partition.sha256,
        "checkpoint": run.checkpoint if run else None,
        "seed": config.seed,
        "max_images": config.max_images,
        "perplexity": config.perplexity,
    }


def _has_same_data(folder: Path, data: dict[str, Any]) -> bool:
    """Return whether the folder has a map of the same data; False if it is of an earlier release."""
    try:
        found = read_json(folder / SUMMARY, EMBEDDING)
    except FlamesError:
        return False
    return all(found.get(key) == value for key, value in data.items())


def _gather(
    config: TsneConfig, partition: NamedPartition, run: LoadedRun | None, progress: Progress
) -> tuple[NDArray[Any], list[tuple[ClientEntry, str]]]:
    """Return the features, N×D, and the client and case of each row."""
    blocks: list[NDArray[Any]] = []
    chosen: list[tuple[ClientEntry, str]] = []
    for done, entry in enumerate(partition.content.clients, start=1):
        if run and run.algorithm.model_group_of(entry.name, entry.modality) not in run.state.server:
            continue  # it took no part in the run, and nobody else trained such a model
        data = ShardDataset(read_shard_sets(checked_shard(partition.folder, entry), "train"))
        order = _draw(config, entry.name, len(data))
        blocks.append(_features(data, order, entry, run))
        chosen += [(entry, data.case(index).case) for index in order]
        progress("features", done, len(partition.content.clients))
    return np.concatenate(blocks), chosen


def _draw(config: TsneConfig, client: str, n: int) -> list[int]:
    """Draw at most `max_images` of a client by seed; return their indices in order."""
    if n <= config.max_images:
        return list(range(n))
    drawn = derive_rng(config.seed, "tsne", client).choice(n, config.max_images, replace=False)
    return sorted(int(index) for index in drawn)


def _features(
    data: ShardDataset, order: list[int], entry: ClientEntry, run: LoadedRun | None
) -> NDArray[Any]:
    if run is None:
        return thumbnail_features(data.example(index)[0] for index in order)
    group = run.algorithm.model_group_of(entry.name, entry.modality)
    weights = run.state.final_server_model(group, entry.modality)
    return run.segmenter.features(weights, data, order)


def _write(
    folder: Path, made: Map, data: dict[str, Any], places: NDArray[Any], chosen: list[tuple[ClientEntry, str]]
) -> None:
    rows = [
        (entry.name, entry.modality, case, float(x), float(y))
        for (entry, case), (x, y) in zip(chosen, places, strict=True)
    ]
    write_csv(folder / "embedding.csv", ("client", "modality", "case", "x", "y"), rows)
    summary = {
        **stamp(EMBEDDING),
        "features": made.features,
        "run": made.run,
        "round": made.round,
        "models": made.models,
        "images": made.images,
        "partition": made.partition,
        **data,
        "silhouette_modality": made.silhouette_modality,
        "silhouette_modality_map": made.silhouette_modality_map,
        "silhouette_client": made.silhouette_client,
    }
    write_json(folder / SUMMARY, summary)
    source = f"bottleneck features of run {made.run}" if made.run else "pixels"
    title = f"t-SNE of the clients' training images ({source})"
    modalities, clients = [entry.modality for entry, _ in chosen], [entry.name for entry, _ in chosen]
    draw_embedding(folder / "tsne.png", folder / "tsne.svg", places, modalities, clients, title)
