"""A client's side of a round: the model that it gets, trained on its own shard, and what it tells of that."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import add_weights
from flames_cli.core.federated.privacy import clip_update
from flames_cli.core.federated.reports import Report, find_not_finite, select
from flames_cli.fed.client_state import CONTROL, STYLE, client_state_folder
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.messages import Profile, TrainRequest, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.learn.devices import memory_format, pick_device, pick_precision
from flames_cli.learn.epochs import OnStep
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.predict import Validation
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, TrainOptions, TrainResult
from flames_cli.store.client_state import delete_client_state_from, load_client_state, save_client_state
from flames_cli.store.files.parse import parse_json

Keep = Callable[[], None]


def train_client(
    task: TrainTask, settings: NodeSettings, profile: Profile, cache: DatasetCache, on_step: OnStep
) -> tuple[Report, Keep]:
    """Train as `task` asks; what the client reports, and what is to be called once the report is packed.

    Raises:
        FlamesError: the shard, the device or what was kept of earlier rounds cannot be used.
    """
    request = task.request
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device, request.model)
    folder = client_state_folder(settings, request.run, profile.client) if _keeps(task) else None
    kept = _recall(folder, request.last_accepted_round) if folder else {}
    model = receive_model(task, kept)
    result = train_epochs(
        model.to(device).to(memory_format=memory_format(device, precision)),
        cache.load(settings, "train"),
        cache.load(settings, "val"),
        _options(request),
        device,
        precision,
        on_step,
        _controls(task, kept),
        task.style,
    )

    def keep() -> None:
        if folder and _is_finite(result):
            save_client_state(folder, request.round, _to_keep(request, model, result, kept))

    return _report(profile, task, model, result), keep


def _keeps(task: TrainTask) -> bool:
    """Whether the client has to keep anything between rounds."""
    return task.control is not None or task.request.share == "content"


def _recall(folder: Path, last: int) -> dict[str, Weights]:
    """What was kept of round `last`, whose report the server took; of later ones it was in vain."""
    delete_client_state_from(folder, last + 1)
    return load_client_state(folder, last + 1)


def _is_finite(result: TrainResult) -> bool:
    """The server refuses a report that is not finite; kept, any of it would spoil every round to come."""
    return not (find_not_finite(result.weights) or find_not_finite(result.control_change or {}))


def receive_model(task: TrainTask, kept: Mapping[str, Weights]) -> SegmentationModel:
    """The client's model: what the server sends of it, and what the client keeps for itself."""
    request = task.request
    model = build_model(request.model, seed=request.initial_seed, **parse_json(request.model_options))
    own: Weights = {}
    if request.share == "content":
        own = kept.get(STYLE) or select(to_weights(model), model.style_entries())
    load_weights(model, {**own, **task.weights})
    return model


def _controls(task: TrainTask, kept: Mapping[str, Weights]) -> Controls | None:
    if task.control is None:
        return None
    zeros = {name: np.zeros_like(array) for name, array in task.control.items()}
    return Controls(task.control, kept.get(CONTROL) or zeros)


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


def _to_keep(
    request: TrainRequest, model: SegmentationModel, result: TrainResult, kept: Mapping[str, Weights]
) -> dict[str, Weights]:
    """What the client keeps until the next round, in full precision whatever travels."""
    keep: dict[str, Weights] = {}
    if result.control_change is not None:
        keep[CONTROL] = add_weights(kept.get(CONTROL, {}), result.control_change)
    if request.share == "content":
        keep[STYLE] = select(result.weights, model.style_entries())
    return keep


def _report(profile: Profile, task: TrainTask, model: SegmentationModel, result: TrainResult) -> Report:
    """What leaves the client."""
    request = task.request
    metrics = {"train_loss": result.train_loss, "best_epoch": float(result.best_epoch)}
    metrics |= _validation_metrics("received", result.received) | _validation_metrics(
        "trained", result.trained
    )
    weights = result.weights
    renderer = model.renderer_entries() if request.report_style else frozenset()
    style = select(weights, renderer) if renderer else None
    if request.share == "content":
        weights = select(weights, weights.keys() - model.style_entries())
    if request.clip:
        # Here rather than in a mod around the ClientApp, which has only what was narrowed for its way.
        weights = clip_update(weights, task.weights, request.clip)
    counts = (result.n_examples, result.n_steps)
    return Report(profile.client, profile.modality, weights, *counts, metrics, result.control_change, style)


def _validation_metrics(prefix: str, validation: Validation | None) -> dict[str, float]:
    if validation is None:
        return {}
    return {f"{prefix}_val_loss": validation.loss, f"{prefix}_val_dice": validation.dice}
