"""Plan of a federation, decided from its options before it starts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm, Privacy
from flames_cli.core.federated.lr_schedule import LrSchedule
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.plan import Plan, initial_seed
from flames_cli.learn.augmentations.applying import probe_augmentations
from flames_cli.learn.loss_registry import DEFAULT_LOSS
from flames_cli.learn.models import MODELS, build_model, options_for
from flames_cli.learn.models import check_options as check_model_options
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.models.probing import probe_model
from flames_cli.learn.models.smallest_batch import smallest_batch
from flames_cli.learn.plugin_losses import probe_loss
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.federate.asynchronous_options import buffering_of, check_asynchronous
from flames_cli.stages.federate.secure_options import check_options
from flames_cli.stages.federate.swarm import topology_of

MAX_UPDATE_NORM = 10.0
"""Default limit for real nodes: honest clients stay well below it (docs/security.md)."""

DELTA = 1e-5
"""Default δ for which ε is reported."""


def choose_algorithm(config: FederateConfig) -> Algorithm:
    """Return the strategy with its server's options.

    Raises:
        FlamesError: there is no such strategy, or it cannot have one of the options.
    """
    algorithm = get_algorithm(config.strategy)
    if algorithm.clients_correct_gradients and config.training.optimiser != "sgd":
        raise FlamesError(
            f"strategy {config.strategy} is defined for plain SGD, got optimiser "
            f"{config.training.optimiser}; pass --optimiser sgd, with a larger --lr such as 0.1"
        )
    if config.style_from is not None and algorithm.alone:
        raise FlamesError(
            f"strategy {config.strategy} exchanges no styles between clients; leave --style-from out"
        )
    if config.server_momentum and not algorithm.averages:
        raise FlamesError(
            f"strategy {config.strategy} has no server momentum; leave --server-momentum out, "
            "or use a strategy that averages, such as fedavg or fedgs"
        )
    if config.fraction < 1 and algorithm.alone:
        raise FlamesError(
            f"--fraction {config.fraction:g} draws clients, and in strategy {config.strategy} every model "
            "has only one client, which would only train fewer rounds; leave --fraction out"
        )
    if config.bad_clients is not None and config.aggregation not in ("trimmed-mean", "krum"):
        raise FlamesError(
            f"--bad-clients {config.bad_clients} is an option of --aggregation trimmed-mean or krum, "
            f"got {config.aggregation}; choose one of them, or leave it out"
        )
    check_options(config, algorithm)
    check_asynchronous(config, algorithm)
    check_rounds_by(config, algorithm)
    chosen = replace(
        algorithm,
        server_momentum=config.server_momentum,
        server_lr=config.server_lr,
        ema=config.ema,
        aggregation=config.aggregation,
        bad_clients=config.bad_clients,
        buffering=buffering_of(config),
    )
    privacy = choose_privacy(config)
    return replace(chosen, privacy=privacy, weight="uniform") if privacy else chosen


def check_rounds_by(config: FederateConfig, algorithm: Algorithm) -> None:
    """Check that modalities can do their own rounds, if that is asked for.

    Raises:
        FlamesError: they train one model together.
    """
    if config.rounds_by == "modality" and algorithm.has_one_model:
        able = [name for name in ALGORITHMS.builtin if not ALGORITHMS[name].has_one_model]
        raise FlamesError(
            f"--rounds-by modality lets each modality do its own rounds, and strategy {config.strategy} "
            f"trains one model for all of them; use {', '.join(able)}, or leave --rounds-by out"
        )


def choose_privacy(config: FederateConfig) -> Privacy | None:
    """Return the requested differential privacy; None if there is none.

    Raises:
        FlamesError: there is noise without a clip or the reverse, or an option that would reveal what the
            noise hides.
    """
    if config.dp_noise is None or config.dp_clip is None:
        if given := [
            name for name in ("noise", "clip", "delta") if getattr(config, f"dp_{name}") is not None
        ]:
            raise FlamesError(f"got --dp-{given[0]} alone; pass both --dp-noise and --dp-clip, or neither")
        return None
    if not get_algorithm(config.strategy).takes_one_mean:
        able = [name for name in ALGORITHMS.builtin if ALGORITHMS[name].takes_one_mean]
        raise FlamesError(
            f"strategy {config.strategy} has more than one mean to blur, so it cannot have --dp-noise; use "
            f"{', '.join(able)} ({able[1]} is nearest to flames: it has one model per modality)"
        )
    if config.aggregation != "mean":
        raise FlamesError(
            f"--dp-noise blurs a mean, and --aggregation {config.aggregation} is not a mean; leave one of "
            "them out"
        )
    if config.wire_dtype == "int8":
        raise FlamesError(
            "--wire-dtype int8 adds to a client's update what earlier reports left out, so that it is longer "
            "than --dp-clip allows; choose fp32, bf16 or fp16 with --dp-noise"
        )
    if config.max_update_norm:
        # One additional client may change the median, and so which client is rejected: far more than its own
        # update.
        raise FlamesError(
            "--max-update-norm compares clients with each other, which --dp-noise does not hide, "
            "and --dp-clip bounds every update; leave --max-update-norm out"
        )
    if config.style_from is not None:
        raise FlamesError(
            "--style-from sends styles without noise, so --dp-noise does not protect them; leave "
            "--style-from out"
        )
    return Privacy(config.dp_noise, config.dp_clip, config.dp_delta or DELTA)


@dataclass(frozen=True, slots=True)
class Initial:
    """Initial weights that are not drawn by seed."""

    every: Weights | None = None
    """Weights of every model that has none in `by_model`; None: these are drawn by seed."""
    by_model: Mapping[str, Weights] = field(default_factory=dict)
    """Weights by modality, or by client (see `fed.plan.client_model`)."""


def make_plan(config: FederateConfig, facts: Mapping[str, Any], initial: Initial | None) -> Plan:
    """Return the plan of a run with these options and facts (of its images), which are those of its
    config.toml.

    `initial` are the stored weights of a run that continues, or those of `--start-from`; None: the initial
    model is made here.

    Raises:
        FlamesError: as `choose_algorithm`, or the images or the batches are too small for the model, or its
            encoder's weights are missing.
    """
    algorithm = choose_algorithm(config)
    size, channels = int(facts["size"]), int(facts.get("channels", 1))
    options = options_for(channels, config.model_options)
    check_model_options(config.model, options)
    _check_freeze(config)
    given = initial or Initial()
    encoder_weights = encoder_weights_of(config) if given.every is None else "none"
    model = _initial_model(config, options, size, encoder_weights)
    fewest = check_batch_size(model, config.model, size, config.training.batch_size)
    probe_plugins(config.training, config.model, model, size, fewest)
    return Plan(
        algorithm=algorithm,
        rounds=config.rounds,
        seed=config.seed,
        model=config.model,
        model_options=options,
        initial=to_weights(model) if given.every is None else given.every,
        starts=given.by_model,
        draws_others=bool(given.by_model) and given.every is None,
        size=size,
        channels=channels,
        smallest_batch=fewest,
        training=config.training,
        own_training=own_training_of(config),
        lr_schedule=lr_schedule_of(config),
        share=config.share,
        style_from=config.style_from,
        wire_dtype=config.wire_dtype,
        fraction=config.fraction,
        secure=config.secure_aggregation,
        max_update_norm=_norm_limit(config),
        run=str(facts.get("token", "")),
        run_name=config.run_name,
        strategy=config.strategy,
        entries=describe_entries(model, config.share, config.style_from is not None, config.training.freeze),
        topology=topology_of(config),
    )


def check_batch_size(model: SegmentationModel, name: str, size: int, batch_size: int) -> int:
    """Return the smallest number of images that `model` can train on in a step.

    Raises:
        FlamesError: `batch_size` is smaller.
    """
    fewest = smallest_batch(model, size)
    if batch_size < fewest:
        raise FlamesError(
            f"got --batch-size {batch_size} with images of {size}×{size}, of which this "
            f"{name} needs {fewest} in a step, since BatchNorm gets one value of an image at its "
            "deepest level; pass --batch-size 2 or more, --norm group, or preprocess with a larger --size"
        )
    return fewest


def probe_plugins(
    training: TrainOptions, name: str, model: SegmentationModel, size: int, smallest: int
) -> None:
    """Check the model called `name`, loss and augmentations of plug-ins on random images, before training.

    Raises:
        FlamesError: one of them fails or gives something else than expected, or the loss does not go with
            the model or the options.
    """
    _check_loss(training, name, model)
    if origin := MODELS.origin(name):
        probe_model(model, f"model '{name}' of the plug-in {origin}", size, smallest)
    probe_loss(training.loss, size)
    probe_augmentations(training.augmentations, size, model.in_channels)


def _check_loss(training: TrainOptions, name: str, model: SegmentationModel) -> None:
    if training.loss == DEFAULT_LOSS:
        return
    if isinstance(model, DisentangledModel):
        raise FlamesError(
            f"model {name} rebuilds its images and has its own loss for that, got --loss {training.loss}; "
            "leave --loss out, or use another --model"
        )
    usual = TrainOptions()
    if training.dice_weight != usual.dice_weight or training.per_pixel_focal:
        given = "--per-pixel-focal" if training.per_pixel_focal else f"--dice-weight {training.dice_weight:g}"
        raise FlamesError(
            f"{given} is an option of --loss {DEFAULT_LOSS}, got --loss {training.loss}; leave one of them "
            "out"
        )


def _check_freeze(config: FederateConfig) -> None:
    """Raise FlamesError if the frozen part of the model would be drawn by seed."""
    if (
        config.training.freeze != "none"
        and config.start_from is None
        and encoder_weights_of(config) == "none"
    ):
        raise FlamesError(
            f"got --freeze {config.training.freeze} with weights that are drawn by seed, which would never "
            "be trained, expected trained ones; pass --start-from or --encoder-weights, or leave --freeze out"
        )


def own_training_of(config: FederateConfig) -> dict[str, dict[str, float]]:
    """Return the options that modalities or clients have of their own, by option and name."""
    return {"lr": dict(config.lr_by_modality), "local_epochs": dict(config.local_epochs_by_modality)}


def lr_schedule_of(config: FederateConfig) -> LrSchedule:
    """Return the learning rate's schedule.

    Raises:
        FlamesError: the warm-up takes all rounds.
    """
    if config.warmup >= config.rounds:
        raise FlamesError(
            f"got --warmup {config.warmup} with --rounds {config.rounds}, so that no round has the full "
            f"learning rate; expected fewer rounds of warm-up than --rounds; lower --warmup"
        )
    return LrSchedule(config.lr_schedule, config.warmup)


def _norm_limit(config: FederateConfig) -> float:
    """Return how many times as far as the median a client may move its model."""
    if config.max_update_norm is None:
        comparable = config.dp_noise is None and not config.secure_aggregation
        real = ENGINES[config.engine].clients_hold_their_data
        return MAX_UPDATE_NORM if real and comparable else math.inf
    return config.max_update_norm or math.inf


def _initial_model(
    config: FederateConfig, options: dict[str, Any], size: int, encoder_weights: str
) -> SegmentationModel:
    """Return the initial model.

    Raises:
        FlamesError: the images are too small for the model, or there are no such encoder weights.
    """
    model = build_model(
        config.model, encoder_weights, seed=initial_seed(config.seed), norm=config.training.norm, **options
    )
    if size < model.min_size:
        raise FlamesError(
            f"the images are {size}×{size}, this {config.model} needs {model.min_size}×{model.min_size}; "
            "preprocess with a larger --size, or use a shallower model (--model-option depth=N of unet)"
        )
    return model


def encoder_weights_of(config: FederateConfig) -> str:
    """Return the requested encoder weights, else ImageNet's for the model that has them, unless all weights
    are given."""
    usual = "imagenet" if config.model == "densenet-unet" and config.start_from is None else "none"
    return config.encoder_weights or usual
