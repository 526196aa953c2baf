"""The best model of a client while a run has not ended: a run that breaks off leaves it at the site."""

from collections.abc import Callable
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import find_not_finite
from flames_cli.errors import FlamesError
from flames_cli.fed.messages import Profile, TrainRequest
from flames_cli.fed.model_description import describe_model
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.node_log import say
from flames_cli.learn.predict import Validation
from flames_cli.report.model_card import write_card
from flames_cli.store.models import ModelInfo
from flames_cli.store.site_models import BEST_SO_FAR, keep_model, read_kept

NOT_ENDED = "the best so far by this site's own validation; the run had not ended"
NEWEST = "the newest so far, since this site has no validation patients; the run had not ended"
PRIVATE = "the newest so far, since differential privacy does not cover a choice; the run had not ended"
"""Reasons for the round of a model that is kept during the rounds."""


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
    why = PRIVATE if request.clip else NEWEST if validation is None else NOT_ENDED
    info = describe_model(request, profile, why, validation, round_=request.round - 1)
    try:
        if not _is_better(settings.models, info):
            return
        weights = complete()
        if find_not_finite(weights):
            return
        name = f"{request.run_name}{BEST_SO_FAR}"
        keep_model(settings.models, name, info, weights, write_card(info), provisional=True)
    except (FlamesError, OSError) as error:
        say(settings, f"the best model so far could not be kept: {error}")
    else:
        dice = "" if validation is None else f" (Dice {validation.dice:.3f})"
        say(settings, f"  best model so far{dice}: models/{name}")


def _is_better(models: Path, info: ModelInfo) -> bool:
    """Return whether a model is better than the kept one of the same run."""
    before = read_kept(models, f"{info.training.run}{BEST_SO_FAR}")
    if before is None or before.training.token != info.training.token:
        return True
    if "dice" not in before.validation or "dice" not in info.validation:
        return before.training.round != info.training.round
    return info.validation["dice"] > before.validation["dice"]
