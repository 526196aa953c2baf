"""The client's side of its own model: model folders in its site's directory, which never leave the site.

During the rounds the best model so far is kept, so that a federation that breaks off leaves one; after the
last round the server sends the model of the chosen round.
"""

import platform
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from flames_cli import __version__
from flames_cli.arrays import Weights
from flames_cli.core.federated.differences import find_difference
from flames_cli.core.federated.reports import find_not_finite, find_negative_variance
from flames_cli.errors import FlamesError
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.final_model import FinalModel, StoredModel
from flames_cli.fed.messages import Profile, TrainRequest, TrainTask
from flames_cli.fed.node import Declined, NodeSettings
from flames_cli.fed.node_log import say
from flames_cli.fed.training import receive_final_model
from flames_cli.learn.devices import memory_format, pick_device, pick_precision
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.predict import Validation, validate
from flames_cli.report.model_card import write_card
from flames_cli.store.files.parse import parse_json
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, TrainedOn, Training
from flames_cli.store.site_models import BEST_SO_FAR, keep_model, read_kept, remove_best_so_far
from flames_cli.store.weights import hash_weights

NOT_ENDED = "the best so far by this site's own validation; the run had not ended"
NEWEST = "the newest so far, since this site has no validation patients; the run had not ended"
"""Reasons for the round of a model that is kept during the rounds."""


def keep_final_model(
    model: FinalModel, settings: NodeSettings, profile: Profile, cache: DatasetCache
) -> StoredModel:
    """Check the client's final model, write its folder, and return the checksum of the stored weights.

    Raises:
        Declined: the node keeps no models.
        FlamesError: the model is not this client's, is damaged, or cannot be written.
    """
    task, request = model.task, model.task.request
    if settings.models is None:
        raise Declined("its node keeps no models, since it has no folder for them")
    if request.client != profile.client:
        raise FlamesError(f"the server sent the model of {request.client!r}, expected that of {profile.client}")
    if not (request.run and request.run_name):
        raise FlamesError("the server sent a model without a run; install the same version everywhere")
    if (found := hash_weights(task.weights)) != model.sha256:
        raise FlamesError(
            f"the model that arrived has the checksum {found[:12]}…, the server states {model.sha256[:12]}…; "
            "run the same `flames federate` again at the server"
        )
    weights, validation = _complete(task, settings, profile, cache)
    info = _describe(request, profile, model.why, validation)
    folder, aside = keep_model(settings.models, request.run_name, info, weights, write_card(info))
    remove_best_so_far(settings.models, request.run_name, request.run)
    _say_kept(settings, info, folder, aside)
    return StoredModel(profile.client, request.round, found)


def _complete(
    task: TrainTask, settings: NodeSettings, profile: Profile, cache: DatasetCache
) -> tuple[Weights, Validation | None]:
    """Return the complete weights, with the entries that stay at the client, and their validation.

    Raises:
        FlamesError: the weights do not fit the model, or are not finite.
    """
    request = task.request
    model = receive_final_model(task, settings, profile.client)
    expected = to_weights(model)
    weights = {name: task.weights.get(name, array) for name, array in expected.items()}
    variances = describe_entries(model, "all").variances
    fault = find_difference(weights, expected) or find_not_finite(weights)
    if fault := fault or find_negative_variance(weights, variances):
        raise FlamesError(f"the model that arrived cannot be used ({fault}), expected one of {request.model}")
    val = cache.load(settings, "val")
    if not len(val) or request.clip:
        return weights, None
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device, request.model)
    options = request.training
    found = validate(
        model.to(device).to(memory_format=memory_format(device, precision)),
        val,
        options.batch_size,
        device,
        precision,
        options.dice_weight,
        options.per_pixel_focal,
    )
    return weights, found


def keep_best_so_far(
    request: TrainRequest,
    settings: NodeSettings,
    profile: Profile,
    received: Validation | None,
    complete: Callable[[], Weights],
) -> None:
    """Keep the model with which a round began, if it is better than the best one so far.

    It is the model after the round before; the initial model is not kept. A fault costs the round nothing:
    it is only logged.

    Args:
        request: the request of the round.
        settings: the node's settings.
        profile: the client.
        received: validation of the model as received; None without validation patients.
        complete: returns the complete weights of that model.
    """
    if settings.models is None or not request.run_name or request.round < 2:
        return
    validation = None if request.clip else received
    why = NEWEST if validation is None else NOT_ENDED
    info = _describe(request, profile, why, validation, round_=request.round - 1)
    try:
        if not _is_better(settings.models, info):
            return
        weights = complete()
        if find_not_finite(weights):
            return
        name = f"{request.run_name}{BEST_SO_FAR}"
        keep_model(settings.models, name, info, weights, write_card(info), provisional=True)
    except FlamesError as error:
        say(settings, f"the best model so far could not be kept: {error}")
    else:
        dice = "" if validation is None else f" (Dice {validation.dice:.3f})"
        say(settings, f"  the best model so far{dice} is kept in models/{name}")


def _is_better(models: Path, info: ModelInfo) -> bool:
    """Return whether a model is better than the kept one of the same run."""
    before = read_kept(models, f"{info.training.run}{BEST_SO_FAR}")
    if before is None or before.training.token != info.training.token:
        return True
    if "dice" not in before.validation or "dice" not in info.validation:
        return before.training.round != info.training.round
    return info.validation["dice"] > before.validation["dice"]


def _describe(
    request: TrainRequest, profile: Profile, why: str, validation: Validation | None, round_: int | None = None
) -> ModelInfo:
    """Return the description of a model of this client; it names no other client.

    With differential privacy it has no numbers of images: the account does not cover them, and the folder may
    be given to others.
    """
    prepared, private = profile.preparation, bool(request.clip)
    options = parse_json(request.model_options)
    channels = int(options.pop("in_channels", profile.channels))
    own = TrainedOn(profile.client, profile.modality, profile.organ, 0, profile.n_train)
    return ModelInfo(
        name=request.run_name,
        architecture=Architecture(request.model, request.training.norm, options),
        input=ModelInput(
            modality=profile.modality,
            organs=tuple(profile.organ.split(", ")),
            size=profile.size,
            channels=channels,
            plane=next(iter(prepared.planes), "axial"),
            mask_resize=next(iter(prepared.mask_resize), "aligned"),
            intensities=prepared.intensities,
        ),
        training=Training(
            kind="client",
            run=request.run_name,
            client=profile.client,
            strategy=request.strategy,
            round=request.round if round_ is None else round_,
            rounds=request.rounds,
            why=why,
            seed=request.seed,
            clients=() if private else (own,),
            token=request.run,
        ),
        validation=_numbers(validation),
        privacy={"epsilon": request.epsilon, "delta": request.delta} if private else {},
        versions=_versions(),
    )


def _numbers(validation: Validation | None) -> dict[str, float]:
    if validation is None:
        return {}
    images, patients = float(validation.n_cases), float(validation.n_patients)
    return {"dice": validation.dice, "images": images, "patients": patients}


def _versions() -> dict[str, str]:
    found = {"flames": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _say_kept(settings: NodeSettings, info: ModelInfo, folder: Path, aside: str) -> None:
    training = info.training
    say(settings, f"this site's own model of run {training.run} is kept (round {training.round})")
    if aside:
        say(settings, f"  an earlier folder of this name is called {aside} now")
    if "dice" in info.validation:
        dice, images = info.validation["dice"], info.validation["images"]
        say(settings, f"  its Dice on this site's {images:.0f} validation images is {dice:.3f}")
    say(settings, f"  flames predict --model {folder} IMAGES --out masks")


