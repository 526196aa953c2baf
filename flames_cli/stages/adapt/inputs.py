"""Inputs of an adaptation: the model, the client's shard, and the check that they fit together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.config import AdaptConfig
from flames_cli.core.federated.reports import find_negative_variance, find_not_finite
from flames_cli.errors import FlamesError
from flames_cli.stages.model_folders import find_model_folder
from flames_cli.stages.model_origins import find_origin
from flames_cli.stages.seen_patients import Provenance, check_unseen, people_of_shard
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import CLIENT_SETS, ShardSummary, read_shard_cases, read_shard_summary
from flames_cli.store.models import ModelInfo, read_model
from flames_cli.store.partition import NamedPartition, checked_shard, open_partition


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model, and the images of the client for which it is adapted."""

    info: ModelInfo
    weights: Weights
    shard: Path
    summary: ShardSummary
    patients: dict[str, int]
    """Number of patients by set: train, val, test."""
    patient_unit: str
    origin: Provenance
    """Partitions on whose patients the model was trained, with that of the shard."""
    notes: tuple[str, ...] = ()


def find_inputs(config: AdaptConfig) -> Inputs:
    """Return the checked inputs; no pixels are read.

    Raises:
        MissingArtifact: there is no such model, shard or partition.
        FlamesError: options are missing or exclude each other, or the two do not fit together.
    """
    if config.model is None:
        raise FlamesError(
            "got no model to adapt, expected one; pass --model with a model folder, or its name in models/"
        )
    if (config.shard is None) == (config.client is None):
        found = "both --shard and --client" if config.shard else "neither --shard nor --client"
        raise FlamesError(
            f"got {found}, expected one of the two; pass --shard FILE.h5 (a client's file of `flames "
            "partition`), or --client NAME of --partition"
        )
    info, weights = read_model(find_model_folder(config.workspace, config.model))
    partition, shard = _find_shard(config)
    summary = read_shard_summary(shard)
    _check_same_images(info, summary)
    _check_weights(info, weights)
    if not summary.images["train"]:
        raise FlamesError(
            f"{shard} has no training images, expected at least one; partition again with another --split"
        )
    cases = read_shard_cases(shard)
    origin = find_origin(config.workspace, info, weights)
    same = partition.sha256 if partition else _partition_of(config.workspace, shard)
    notes = check_unseen(config.workspace, origin, people_of_shard(shard), f"client {summary.name}", same)
    own = (same,) if same else ()
    unknown = origin.unknown or ("" if same else "the shard is of a partition that is not known")
    return Inputs(
        info=info,
        weights=weights,
        shard=shard,
        summary=summary,
        patients={name: len({case.patient for case in cases[name][1]}) for name in CLIENT_SETS},
        patient_unit=cases["train"][0].patient_unit,
        origin=Provenance(origin.source, tuple(dict.fromkeys((*origin.partitions, *own))), unknown),
        notes=(*_organ_notes(info, summary), *notes),
    )


def _find_shard(config: AdaptConfig) -> tuple[NamedPartition | None, Path]:
    """Return the shard, and its partition if it was named."""
    if config.shard is not None:
        return None, config.shard
    partition = open_partition(config.workspace, config.partition)
    for entry in partition.content.clients:
        if entry.name == config.client:
            return partition, checked_shard(partition.folder, entry)
    names = ", ".join(entry.name for entry in partition.content.clients)
    raise FlamesError(
        f"--client names '{config.client}', expected a client of partition '{partition.name}': {names}; "
        "correct the name, or pass another --partition"
    )


def _partition_of(workspace: Path, shard: Path) -> str:
    """Return the SHA-256 of the partition of this workspace to which a shard belongs; "" if there is none."""
    folder = shard.resolve().parent.parent
    if folder.parent != (workspace / "partitions").resolve():
        return ""
    partition = open_partition(workspace, folder.name)
    found = [one for one in partition.content.clients if one.sha256 == hash_file(shard)]
    return partition.sha256 if found else ""


def _check_same_images(info: ModelInfo, summary: ShardSummary) -> None:
    """Check that the shard has such images as the model is for.

    Raises:
        FlamesError: they differ; the message names each difference.
    """
    if differing := [*_differences(info, summary)]:
        raise FlamesError(
            f"model '{info.name}' is not for the images of client {summary.name} (model → client: "
            f"{'; '.join(differing)}), expected the same; preprocess the images as the model's were, or pass "
            "another --model"
        )


def _differences(info: ModelInfo, summary: ShardSummary) -> Iterator[str]:
    image, made = info.input, summary.preparation
    pairs = [
        ("modality", image.modality, summary.modality),
        ("size", image.size, summary.size),
        ("channels", image.channels, summary.channels),
    ]
    yield from (f"{what} {one} → {other}" for what, one, other in pairs if one != other)
    if image.intensities and (other := [rule for rule in made.intensities if rule not in image.intensities]):
        yield f"intensities {' or '.join(map(str, image.intensities))} → {' and '.join(map(str, other))}"
    if other_planes := [plane for plane in made.planes if plane != image.plane]:
        yield f"plane of slices {image.plane} → {' and '.join(other_planes)}"
    if other_resizes := [resize for resize in made.mask_resize if resize != image.mask_resize]:
        yield f"mask_resize {image.mask_resize} → {' and '.join(other_resizes)}"


def _check_weights(info: ModelInfo, weights: Weights) -> None:
    """Raise FlamesError if the weights do not fit the architecture, or cannot be trained."""
    from flames_cli.learn.use import check_model

    check_model(info, weights)
    variances = {entry for entry in weights if entry.endswith(".running_var")}
    if fault := find_not_finite(weights) or find_negative_variance(weights, variances):
        raise FlamesError(
            f"model '{info.name}' has weights that cannot be used ({fault}), expected finite weights; export "
            "it again, or pass another --model"
        )


def _organ_notes(info: ModelInfo, summary: ShardSummary) -> Iterator[str]:
    known = info.input.organs
    if known and summary.organ not in known:
        yield (
            f"model '{info.name}' was trained on {', '.join(known)} and not on {summary.organ}: it starts "
            "from what it has learnt of the modality"
        )
    if not info.input.intensities or not summary.preparation.intensities:
        yield (
            "it is not known whether the images of the client were prepared as the model's: one of the two "
            "does not say how; compare them with `flames models show` and `flames info`"
        )
