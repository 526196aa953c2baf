"""The ClientApp: a hospital's side. It reads its own shard; only weights, counts and means leave it."""

import json

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.arrays import Weights
from flames_cli.core.local_rules import add_weights
from flames_cli.core.reports import Report, find_not_finite, select
from flames_cli.fed.events import OnEvent, StepDone, ignore
from flames_cli.fed.memory import CONTROL, STYLE, recall, remember
from flames_cli.fed.messages import (
    Profile,
    TrainRequest,
    TrainTask,
    pack_profile,
    pack_report,
    unpack_task,
)
from flames_cli.fed.node import DatasetCache, read_profile, settings_of
from flames_cli.learn.devices import memory_format, pick_device, pick_precision
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.predict import Validation
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, TrainOptions, TrainResult


def make_client_app(on_event: OnEvent = ignore) -> ClientApp:
    """The ClientApp of one node; what it is stands in its node's configuration.

    `shard`: path of its HDF5 file (several, joined by line ends, are pooled); `client`:
    its name where that is not the shard's; `device` and `precision`: as `flames federate` takes them.
    """
    app = ClientApp()
    cache = DatasetCache()

    @app.query()
    def describe(message: Message, context: Context) -> Message:
        return pack_profile(read_profile(settings_of(context)), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task = unpack_task(message)
        request = task.request
        settings = settings_of(context)
        profile = read_profile(settings)
        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device, request.model)
        model = _receive(task, context)
        result = train_epochs(
            model.to(device).to(memory_format=memory_format(device, precision)),
            cache.load(settings.shards, "train"),
            cache.load(settings.shards, "val"),
            _options(request),
            device,
            precision,
            lambda step, steps: on_event(StepDone(profile.client, request.round, step, steps)),
            _controls(task, context),
            task.style,
        )
        return pack_report(_report(profile, request, model, result, context), message)

    return app


def _receive(task: TrainTask, context: Context) -> SegmentationModel:
    """The model to train: what the server sends of it, and what the client keeps for itself."""
    request = task.request
    model = build_model(request.model, seed=request.initial_seed, **json.loads(request.model_options))
    own: Weights = {}
    if request.share == "content":
        own = recall(context, STYLE) or select(to_weights(model), model.style_entries())
    load_weights(model, {**own, **task.weights})
    return model


def _controls(task: TrainTask, context: Context) -> Controls | None:
    if task.control is None:
        return None
    zeros = {name: np.zeros_like(array) for name, array in task.control.items()}
    return Controls(task.control, recall(context, CONTROL) or zeros)


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
        optimiser=request.optimiser,
        weight_decay=request.weight_decay,
        keep="last" if request.keep == "last" else "best",
        rule=request.rule,
        proximal_mu=request.proximal_mu,
        precise_norm=request.precise_norm,
    )


def _report(
    profile: Profile, request: TrainRequest, model: SegmentationModel, result: TrainResult, context: Context
) -> Report:
    """What leaves the client; what it keeps is remembered."""
    metrics = {"train_loss": result.train_loss, "best_epoch": float(result.best_epoch)}
    metrics |= _validation_metrics("received", result.received) | _validation_metrics(
        "trained", result.trained
    )
    weights, change = result.weights, result.control_change
    # The server refuses a report that is not finite; kept, any of it would spoil every round to come.
    sound = not find_not_finite(weights) and not find_not_finite(change or {})
    if change is not None and sound:
        remember(context, CONTROL, add_weights(recall(context, CONTROL) or {}, change))
    renderer = model.renderer_entries() if request.report_style else frozenset()
    style = select(weights, renderer) if renderer else None
    if request.share == "content":
        own = model.style_entries()
        if sound:
            remember(context, STYLE, select(weights, own))
        weights = select(weights, weights.keys() - own)
    counts = (result.n_examples, result.n_steps)
    return Report(profile.client, profile.modality, weights, *counts, metrics, change, style)


def _validation_metrics(prefix: str, validation: Validation | None) -> dict[str, float]:
    if validation is None:
        return {}
    return {f"{prefix}_val_loss": validation.loss, f"{prefix}_val_dice": validation.dice}
