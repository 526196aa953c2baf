"""The ClientApp: a hospital's side. It reads its own shard; only weights, counts and means leave it."""

import json
from pathlib import Path

import psutil
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.core.aggregation import Report
from flames_cli.errors import FlamesError
from flames_cli.fed.events import OnEvent, StepDone, ignore
from flames_cli.fed.messages import (
    Profile,
    TrainRequest,
    pack_profile,
    pack_report,
    unpack_request,
)
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import memory_format, pick_device, pick_precision
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.predict import Validation
from flames_cli.learn.train import TrainOptions, TrainResult, train_epochs
from flames_cli.store.h5 import read_shard_sets, read_shard_summary

CACHE_SHARE = 0.25
"""Of the machine's memory that decoded shards may take between rounds."""

SHARD_SEPARATOR = "\n"
"""Between the paths of a node that pools several shards: a path may well hold a colon."""

Shards = tuple[Path, ...]


class DatasetCache:
    """Decoded shards kept between rounds while they fit, so that a round does not decode them again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Shards, str], ShardDataset] = {}
        self._room = int(psutil.virtual_memory().total * CACHE_SHARE)

    def load(self, shards: Shards, set_name: str) -> ShardDataset:
        """The cases of `set_name` of all `shards`."""
        key = (shards, set_name)
        if key in self._kept:
            return self._kept[key]
        dataset = ShardDataset([cases for shard in shards for cases in read_shard_sets(shard, set_name)])
        if dataset.n_bytes <= self._room:
            self._room -= dataset.n_bytes
            self._kept[key] = dataset
        return dataset


def make_client_app(on_event: OnEvent = ignore) -> ClientApp:
    """The ClientApp of one node; what it is stands in its node's configuration.

    `shard`: path of its HDF5 file (several, joined by line ends, are pooled); `client`:
    its name where that is not the shard's; `device` and `precision`: as `flames federate` takes them.
    """
    app = ClientApp()
    cache = DatasetCache()

    @app.query()
    def describe(message: Message, context: Context) -> Message:
        return pack_profile(read_profile(context), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        request, weights = unpack_request(message)
        profile = read_profile(context)
        device = pick_device(str(context.node_config.get("device", "auto")))
        precision = pick_precision(str(context.node_config.get("precision", "auto")), device, request.model)
        # The weights are about to be replaced: no need for an initialisation of its own.
        model = build_model(request.model, seed=request.seed, **json.loads(request.model_options))
        load_weights(model, weights)
        shards = node_shards(context)
        result = train_epochs(
            model.to(device).to(memory_format=memory_format(device, precision)),
            cache.load(shards, "train"),
            cache.load(shards, "val"),
            _options(request),
            device,
            precision,
            lambda step, steps: on_event(StepDone(profile.client, request.round, step, steps)),
        )
        return pack_report(_report(profile, result), message)

    return app


def node_shards(context: Context) -> Shards:
    """The files that this node owns.

    Raises:
        FlamesError: its configuration names none.
    """
    listed = str(context.node_config.get("shard", ""))
    if not listed:
        raise FlamesError(
            "the node's configuration names no shard, expected --node-config 'shard=\"FILE.h5\"'"
        )
    return tuple(Path(path) for path in listed.split(SHARD_SEPARATOR))


def read_profile(context: Context) -> Profile:
    """What this node says of itself, from its shards.

    Raises:
        FlamesError: shards of several modalities, sizes or numbers of channels cannot be one client.
    """
    summaries = [read_shard_summary(path) for path in node_shards(context)]
    for name in ("modality", "size", "channels"):
        values = sorted({str(getattr(summary, name)) for summary in summaries})
        if len(values) > 1:
            raise FlamesError(f"one client cannot hold shards of {name} {' and '.join(values)}")
    return Profile(
        client=str(context.node_config.get("client", summaries[0].name)),
        modality=summaries[0].modality,
        organ=", ".join(dict.fromkeys(summary.organ for summary in summaries)),
        n_train=sum(summary.images["train"] for summary in summaries),
        n_val=sum(summary.images["val"] for summary in summaries),
        size=summaries[0].size,
        channels=summaries[0].channels,
    )


def _options(request: TrainRequest) -> TrainOptions:
    return TrainOptions(
        seed=request.seed,
        round=request.round,
        client=request.client,
        epochs=request.epochs,
        batch_size=request.batch_size,
        lr=request.lr,
        dice_weight=request.dice_weight,
        per_pixel_focal=request.per_pixel_focal,
        augment=request.augment,
    )


def _report(profile: Profile, result: TrainResult) -> Report:
    metrics = {"train_loss": result.train_loss, "best_epoch": float(result.best_epoch)}
    metrics |= _validation_metrics("received", result.received) | _validation_metrics(
        "trained", result.trained
    )
    return Report(
        profile.client, profile.modality, result.weights, result.n_examples, result.n_steps, metrics
    )


def _validation_metrics(prefix: str, validation: Validation | None) -> dict[str, float]:
    if validation is None:
        return {}
    return {f"{prefix}_val_loss": validation.loss, f"{prefix}_val_dice": validation.dice}
