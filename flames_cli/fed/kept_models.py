"""The client's side of its own model: model folders in its site's directory, which never leave the site.

During the rounds the best model so far is kept, so that a federation that breaks off leaves one; after the
last round the server sends the model of the chosen round.
"""

from dataclasses import replace
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.differences import find_difference
from flames_cli.core.federated.reports import find_negative_variance, find_not_finite
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import check_token
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.final_model import FinalModel, StoredModel
from flames_cli.fed.messages import Profile, TrainTask
from flames_cli.fed.model_description import describe_model
from flames_cli.fed.node import Declined, NodeSettings
from flames_cli.fed.node_log import say
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.secure.own_final import with_final_model
from flames_cli.fed.training import receive_final_model
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.learn.models import options_for
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.predict import Validation, validate_by
from flames_cli.report.model_card import write_card
from flames_cli.store.files.parse import parse_json
from flames_cli.store.models import ModelInfo
from flames_cli.store.seen import find_seen
from flames_cli.store.site_models import keep_model, remove_best_so_far
from flames_cli.store.weights import hash_weights


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
        raise FlamesError(
            f"the server sent the model of client {sanitise(request.client[:80])!r}, expected that of "
            f"{profile.client}; install the same version everywhere"
        )
    check_token(request.run)
    if not request.run_name:
        raise FlamesError("the server sent a model without the name of its run; install the same version")
    if (found := hash_weights(task.weights)) != model.sha256:
        raise FlamesError(
            f"the model that arrived has the checksum {found[:12]}…, the server states {model.sha256[:12]}…; "
            "run the same `flames federate` again at the server"
        )
    own = with_final_model(task, settings, profile.client, request.round)
    weights, validation = _complete(own, settings, profile, cache)
    info = describe_model(request, profile, model.why, validation)
    if not request.clip:
        info = replace(info, seen=find_seen(settings.shards))
    folder, aside = keep_model(settings.models, request.run_name, info, weights, write_card(info))
    remove_best_so_far(settings.models, request.run_name, request.run)
    _say_kept(settings, info, folder, aside)
    return StoredModel(profile.client, request.round, found)


def _complete(
    task: TrainTask, settings: NodeSettings, profile: Profile, cache: DatasetCache
) -> tuple[Weights, Validation | None]:
    """Return the complete weights, with the entries that stay at the client, and their validation.

    Raises:
        FlamesError: the weights do not fit the model, or the model the client's images; or a value is not
            finite.
    """
    request = task.request
    options_for(profile.channels, parse_json(request.model_options))  # else no image of this site fits
    with receive_final_model(task, settings, profile.client) as model:
        expected = to_weights(model)
        weights = {name: task.weights.get(name, array) for name, array in expected.items()}
        variances = describe_entries(model, "all").variances
        fault = find_difference(weights, expected) or find_not_finite(weights)
        if fault := fault or find_negative_variance(weights, variances):
            raise FlamesError(
                f"the model that arrived cannot be used ({fault}), expected the entries of {request.model}; "
                "install the same version everywhere"
            )
        val = cache.load(settings, "val")
        if not len(val) or request.clip:
            return weights, None
        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device, request.model)
        return weights, validate_by(model, val, request.training, device, precision)


def _say_kept(settings: NodeSettings, info: ModelInfo, folder: Path, aside: str) -> None:
    training = info.training
    say(settings, f"this site's own model of run {training.run} is kept (round {training.round})")
    if aside:
        say(settings, f"  an earlier folder of this name is called {aside} now")
    if "dice" in info.validation:
        dice, images = info.validation["dice"], info.validation["images"]
        say(settings, f"  its Dice on this site's {images:.0f} validation images is {dice:.3f}")
    say(settings, f"  flames predict --model {folder} IMAGES --out masks")
