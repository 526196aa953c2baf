"""What a federation does, decided from its options before it starts."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm, Privacy
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.plan import Plan, initial_seed
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.optimisers import WEIGHT_DECAY

MAX_UPDATE_NORM = 10.0
"""Of real nodes, where nothing else is said: honest clients stay well below (docs/security.md)."""

DELTA = 1e-5
"""At which epsilon is told, where nothing else is asked for."""


def choose_algorithm(config: FederateConfig) -> Algorithm:
    """The strategy with its server's options.

    Raises:
        FlamesError: no such strategy, or an option that it cannot have.
    """
    algorithm = get_algorithm(config.strategy)
    if algorithm.clients_correct_gradients and config.optimiser != "sgd":
        raise FlamesError(
            f"strategy {config.strategy} is defined for plain SGD, got optimiser {config.optimiser}; "
            "pass --optimiser sgd, with a larger --lr such as 0.1"
        )
    if config.style_from is not None and algorithm.alone:
        raise FlamesError(f"strategy {config.strategy} has nobody to lend a style to; leave --style-from out")
    if config.server_momentum and (algorithm.blend != "mean" or algorithm.alone):
        raise FlamesError(
            f"strategy {config.strategy} has no server momentum; leave --server-momentum out, "
            "or take a strategy that averages, such as fedavg or fedgs"
        )
    if config.bad_clients is not None and config.aggregation not in ("trimmed-mean", "krum"):
        raise FlamesError(
            f"--bad-clients {config.bad_clients} is of --aggregation trimmed-mean or krum, "
            f"got {config.aggregation}; choose one of them, or leave it out"
        )
    chosen = replace(
        algorithm,
        server_momentum=config.server_momentum,
        server_lr=config.server_lr,
        aggregation=config.aggregation,
        bad_clients=config.bad_clients,
    )
    privacy = choose_privacy(config)
    return replace(chosen, privacy=privacy, weight="uniform") if privacy else chosen


def choose_privacy(config: FederateConfig) -> Privacy | None:
    """The differential privacy that was asked for.

    Raises:
        FlamesError: noise without a clip or the reverse, or with what would give away what noise hides.
    """
    if config.dp_noise is None or config.dp_clip is None:
        if given := [
            name for name in ("noise", "clip", "delta") if getattr(config, f"dp_{name}") is not None
        ]:
            raise FlamesError(f"got --dp-{given[0]} alone; pass both --dp-noise and --dp-clip, or neither")
        return None
    able = [name for name, algorithm in ALGORITHMS.items() if algorithm.takes_one_mean]
    if config.strategy not in able:
        raise FlamesError(
            f"strategy {config.strategy} has more than one mean to blur, so it cannot have --dp-noise; take "
            f"{', '.join(able)} ({able[1]} is nearest to flames: it has one model a modality)"
        )
    if config.aggregation != "mean":
        raise FlamesError(
            f"--dp-noise blurs a mean, and --aggregation {config.aggregation} is none; leave one of them out"
        )
    if config.max_update_norm:
        # One client more may change the median, and so who is refused: far more than its own update.
        raise FlamesError(
            "--max-update-norm compares clients with each other, which --dp-noise does not hide, "
            "and --dp-clip bounds every update; leave --max-update-norm out"
        )
    if config.style_from is not None:
        raise FlamesError(
            "lent styles are not blurred, so --dp-noise is not for them; leave --style-from out"
        )
    return Privacy(config.dp_noise, config.dp_clip, config.dp_delta or DELTA)


def make_plan(config: FederateConfig, facts: Mapping[str, Any], initial: Weights | None) -> Plan:
    """The plan of a run with these options and facts (of its images), as its config.toml holds them.

    `initial` is what every model of a run that goes on started from; None: to be made.

    Raises:
        FlamesError: as `choose_algorithm`, or the images are too small for the model, or its encoder's
            weights are missing.
    """
    algorithm = choose_algorithm(config)
    size, channels = int(facts["size"]), int(facts.get("channels", 1))
    options = options_for(channels, config.model_options)
    model = _initial_model(config, options, size, encoder_weights_of(config) if initial is None else "none")
    decay = WEIGHT_DECAY[config.optimiser] if config.weight_decay is None else config.weight_decay
    return Plan(
        algorithm=algorithm,
        rounds=config.rounds,
        seed=config.seed,
        model=config.model,
        model_options=options,
        initial=to_weights(model) if initial is None else initial,
        size=size,
        channels=channels,
        epochs=config.local_epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        lr_by_modality=dict(config.lr_by_modality),
        dice_weight=config.dice_weight,
        per_pixel_focal=config.per_pixel_focal,
        augment=config.augment,
        optimiser=config.optimiser,
        weight_decay=decay,
        keep=config.keep_epoch,
        proximal_mu=config.proximal_mu,
        precise_norm=config.precise_norm,
        share=config.share,
        style_from=config.style_from,
        wire_dtype=config.wire_dtype,
        max_update_norm=_norm_limit(config),
        run=str(facts.get("token", "")),
        entries=describe_entries(model, config.share, config.style_from is not None),
    )


def _norm_limit(config: FederateConfig) -> float:
    """How many times as far as the median a client may move its model."""
    if config.max_update_norm is None:
        return (
            MAX_UPDATE_NORM
            if ENGINES[config.engine].clients_hold_their_data and config.dp_noise is None
            else math.inf
        )
    return config.max_update_norm or math.inf


def _initial_model(
    config: FederateConfig, options: dict[str, Any], size: int, encoder_weights: str
) -> SegmentationModel:
    """What every model starts from.

    Raises:
        FlamesError: the images are too small for the model, or there are no such encoder weights.
    """
    model = build_model(config.model, encoder_weights, seed=initial_seed(config.seed), **options)
    if size < model.min_size:
        raise FlamesError(
            f"the images are {size}×{size}, this {config.model} needs {model.min_size}×{model.min_size}; "
            "preprocess with a larger --size, or take a shallower model (--model-option depth=N of unet)"
        )
    return model


def encoder_weights_of(config: FederateConfig) -> str:
    """What was asked for, else ImageNet's for the model that has them."""
    return config.encoder_weights or ("imagenet" if config.model == "densenet-unet" else "none")
