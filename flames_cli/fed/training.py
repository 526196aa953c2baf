"""The client's side of a round: train the received model on the client's own shard, and make the report."""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import Offer
from flames_cli.core.federated.choice import Choice, update
from flames_cli.core.federated.coding import Coded, code
from flames_cli.core.federated.local_rules import add_weights
from flames_cli.core.federated.privacy import clip_update
from flames_cli.core.federated.reports import Report, find_not_finite, select
from flames_cli.core.federated.secure_blend import INVERSE
from flames_cli.core.federated.summed_preferences import to_arrays
from flames_cli.core.federated.wire import INT8
from flames_cli.fed.best_so_far import keep_best_so_far
from flames_cli.fed.client_state import (
    CONTROL,
    OWN,
    OWN_FACTOR,
    PREFERENCE,
    RESIDUAL,
    RULE,
    STYLE,
    client_state_folder,
)
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.messages import Profile, TrainRequest, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.plugin_rules import find_rule
from flames_cli.fed.secure.own_model import find_preference
from flames_cli.learn.candidates import choose_model
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.learn.epochs import OnStep
from flames_cli.learn.model_pool import POOL
from flames_cli.learn.models import build_model, check_options
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.freezing import frozen
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, PluginRule, TrainResult
from flames_cli.store.client_state import delete_client_state_from, load_client_state, save_client_state
from flames_cli.store.files.parse import parse_json

OwnPart = Callable[[Report], Weights]
"""own_part(report) returns what a client stores with its report, to read the secure sum that has it."""

SaveState = Callable[[], None]
"""Function that saves the client state of this round."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Functions that learn about a client's training while it goes on."""

    on_step: OnStep
    """Called with the number of steps done and the total."""
    on_note: Callable[[str], None]
    """Called with a sentence for the run's log."""


def train_client(
    task: TrainTask,
    settings: NodeSettings,
    profile: Profile,
    cache: DatasetCache,
    watch: Watch,
    own_part: OwnPart | None = None,
) -> tuple[Report, Coded | None, SaveState]:
    """Train as `task` asks, and return the report, its weights as they travel, and a function that saves the
    client state.

    With secure aggregation, `own_part` gives what is stored with the report, and no weights travel.

    Call this function after the report is packed: a report that cannot be packed is not sent, and the next
    round must then start from the old state.

    Raises:
        FlamesError: the shard, the device or the client state cannot be used, or a difference is outside the
            range of the wire type.
    """
    request = task.request
    rule = find_rule(request.rule)
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device, request.model)
    has_state = _has_client_state(task, rule)
    folder = client_state_folder(settings, request.run, profile.client) if has_state else None
    state = _load_valid_state(folder, request.last_accepted_round) if folder else {}
    train, val, local = (
        cache.load(settings, "train"),
        cache.load(settings, "val"),
        _local_round(task, rule, state, settings),
    )
    with receive_model(task, settings, state) as model:
        received = to_weights(model) if local.offer else {}
        choice, _ = choose_model(model, received, train, val, local, device, precision)
        result = train_epochs(model, train, val, local, device, precision, watch.on_step)
        report = replace(_report(profile, task, model, result), choice=choice)
        style = model.style_entries()
    coded, own = None, dict[str, Weights]()
    if own_part is None:
        coded = code(report.weights, begun_with(task, choice), request.wire_dtype, state.get(RESIDUAL, {}))
    elif request.secure == INVERSE:
        own = {OWN: report.weights, OWN_FACTOR: own_part(report)}
        preference = update(find_preference(state), report.n_examples, choice)
        report = replace(report, preference=preference)
        own[PREFERENCE] = to_arrays(preference)
    for note in result.notes:
        watch.on_note(note)

    def begun() -> Weights:
        """Return the complete weights with which the round began, made again from the message."""
        with receive_model(task, settings, state) as again:
            return {**to_weights(again), **begun_with(task, choice)}

    def save_state() -> None:
        if folder and _is_finite(result):
            kept = {RESIDUAL: coded.residual} if coded and coded.residual else own
            save_client_state(folder, request.round, {**_new_state(request, style, result, state), **kept})
        keep_best_so_far(request, settings, profile, result.received, begun)

    return report, coded, save_state


def begun_with(task: TrainTask, choice: Choice | None) -> Weights:
    """Return the shared weights with which the round began: those of the message, or the client's choice."""
    offer = offer_of(task)
    return {**task.weights, **offer.candidate(choice.pick)} if choice and offer else task.weights


def _has_client_state(task: TrainTask, rule: str | PluginRule) -> bool:
    """Return True if the client must store something between rounds."""
    of_rule = isinstance(rule, PluginRule) and bool(rule.kind.keeps_state)
    by_request = task.request.style_stays or task.request.wire_dtype == INT8 or task.request.secure == INVERSE
    return of_rule or task.control is not None or by_request


def _load_valid_state(folder: Path, last: int) -> dict[str, Weights]:
    """Return the client state of round `last`, the last accepted one; delete the state of later rounds."""
    delete_client_state_from(folder, last + 1)
    return load_client_state(folder, last + 1)


def _is_finite(result: TrainResult) -> bool:
    """Return True if all results are finite.

    The server rejects a report that is not finite. Its state must not be saved: it would spoil all later
    rounds.
    """
    return not (find_not_finite(result.weights) or find_not_finite(result.control_change or {}))


@contextmanager
def receive_final_model(task: TrainTask, settings: NodeSettings, client: str) -> Iterator[SegmentationModel]:
    """Lend the client's model after the last round, with the style that it stores if it has one."""
    request, state = task.request, dict[str, Weights]()
    if request.style_stays:
        folder = client_state_folder(settings, request.run, client)
        state = load_client_state(folder, request.last_accepted_round + 1)
    with receive_model(task, settings, state) as model:
        yield model


@contextmanager
def receive_model(
    task: TrainTask, settings: NodeSettings, state: Mapping[str, Weights]
) -> Iterator[SegmentationModel]:
    """Lend the client's model on the node's device: the entries that the server sends, and those in the
    client state.

    The model is this process' only one of its kind on the device: it is the next client's after the block.
    """
    request = task.request
    options = parse_json(request.model_options)
    # Checked first: other names would be further arguments of `build_model`.
    check_options(request.model, options)
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device, request.model)
    training = request.training
    with (
        POOL.lend(request.model, training.norm, options, device, precision) as model,
        frozen(model, training.freeze),
    ):
        own: Weights = {}
        if request.style_stays:
            own = state.get(STYLE) or _initial_style(request, options)
        load_weights(model, {**own, **task.weights})
        yield model


def _initial_style(request: TrainRequest, options: Mapping[str, Any]) -> Weights:
    """Return the entries of style of the run's initial model."""
    model = build_model(request.model, seed=request.initial_seed, norm=request.training.norm, **options)
    return select(to_weights(model), model.style_entries())


def _controls(task: TrainTask, state: Mapping[str, Weights]) -> Controls | None:
    if task.control is None:
        return None
    zeros = {name: np.zeros_like(array) for name, array in task.control.items()}
    return Controls(server=task.control, client=state.get(CONTROL) or zeros)


def _local_round(
    task: TrainTask, rule: str | PluginRule, state: Mapping[str, Weights], settings: NodeSettings
) -> LocalRound:
    request = task.request
    return LocalRound(
        seed=request.seed,
        round=request.round,
        client=request.client,
        options=request.training,
        rule=rule,
        rule_state=state.get(RULE),
        controls=_controls(task, state),
        style=task.style,
        offer=offer_of(task),
        rounds=request.rounds,
        compile=settings.compile,
    )


def offer_of(task: TrainTask) -> Offer | None:
    """Return the models among which the client chooses; None if the server offers no choice."""
    if task.prior is None or task.blend is None:
        return None
    return Offer(task.weights, task.blend, task.prior)


def _new_state(
    request: TrainRequest, style: Set[str], result: TrainResult, old: Mapping[str, Weights]
) -> dict[str, Weights]:
    """Return the client state after the round, in full precision whatever the wire type."""
    state: dict[str, Weights] = {}
    if result.control_change is not None:
        state[CONTROL] = add_weights(old.get(CONTROL, {}), result.control_change)
    if request.style_stays:
        state[STYLE] = select(result.weights, style)
    if result.rule_state:
        state[RULE] = result.rule_state
    return state


def _report(profile: Profile, task: TrainTask, model: SegmentationModel, result: TrainResult) -> Report:
    """Return the report, which is all that leaves the client."""
    request = task.request
    metrics = {"train_loss": result.train_loss, "best_epoch": float(result.best_epoch)}
    if result.received:
        metrics |= result.received.numbers("received_")
    if result.trained:
        metrics |= {"trained_val_loss": result.trained.loss, "trained_val_dice": result.trained.dice}
    weights = result.weights
    renderer = model.renderer_entries() if request.report_style else frozenset()
    style = select(weights, renderer) if renderer else None
    if request.style_stays:
        weights = select(weights, weights.keys() - model.style_entries())
    if request.clip:
        # A mod around the ClientApp could clip only the weights after their conversion to the wire type.
        weights = clip_update(weights, task.weights, request.clip)
    return Report(
        client=profile.client,
        modality=profile.modality,
        weights=weights,
        n_examples=result.n_examples,
        n_steps=result.n_steps,
        metrics=metrics,
        control=result.control_change,
        style=style,
    )
