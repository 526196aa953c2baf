"""`flames tsne`: shards (and a run, for deep features) → a map of the clients' training images (the paper's
Figure 6)."""

from dataclasses import dataclass
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
from flames_cli.store.files.atomic import remove_leftovers, write_csv, write_json
from flames_cli.store.files.locks import in_turn, reading_partition
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import ClientEntry, NamedPartition, checked_shard, open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import find_run
from flames_cli.store.schema import EMBEDDING, stamp


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


def tsne(config: TsneConfig, progress: Progress = silent) -> Map:
    """Embed the clients' training images and draw them twice: by modality and by client.

    Raises:
        MissingArtifact: there is no partition, or no run for deep features.
        FlamesError: there are too few images, or all are alike.
    """
    _check_options(config)
    name = config.partition
    if config.features == "deep":
        name = find_run_partition(config.workspace, find_run(config.workspace, config.run))
    with reading_partition(config.workspace, name):
        return _draw_map(config, open_partition(config.workspace, name), progress)


def _check_options(config: TsneConfig) -> None:
    """Check that a run or a round is given only for the features of its model.

    Raises:
        FlamesError: it is given for pixels.
    """
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
        folder=config.workspace / "tsne",
        files=["embedding.csv", "tsne.png", "tsne.svg", "tsne.json"],
        round=run.chosen.round if run else None,
        why=run.chosen.why if run else "",
    )
    with in_turn(made.folder):
        remove_leftovers(made.folder)
        _write(made, places, modalities, clients, [case for _, case in chosen])
    return made


def _gather(
    config: TsneConfig, partition: NamedPartition, run: LoadedRun | None, progress: Progress
) -> tuple[NDArray[Any], list[tuple[ClientEntry, str]]]:
    """Return the features, N×D, and the client and case of each row."""
    blocks: list[NDArray[Any]] = []
    chosen: list[tuple[ClientEntry, str]] = []
    for done, entry in enumerate(partition.content.clients, start=1):
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
    made: Map, places: NDArray[Any], modalities: list[str], clients: list[str], cases: list[str]
) -> None:
    rows = [
        (client, modality, case, float(x), float(y))
        for client, modality, case, (x, y) in zip(clients, modalities, cases, places, strict=True)
    ]
    write_csv(made.folder / "embedding.csv", ("client", "modality", "case", "x", "y"), rows)
    summary = {
        **stamp(EMBEDDING),
        "features": made.features,
        "run": made.run,
        "round": made.round,
        "models": made.models,
        "images": made.images,
        "silhouette_modality": made.silhouette_modality,
        "silhouette_modality_map": made.silhouette_modality_map,
        "silhouette_client": made.silhouette_client,
    }
    write_json(made.folder / "tsne.json", summary)
    source = f"bottleneck features of run {made.run}" if made.run else "pixels"
    title = f"t-SNE of the clients' training images ({source})"
    draw_embedding(made.folder / "tsne.png", made.folder / "tsne.svg", places, modalities, clients, title)
