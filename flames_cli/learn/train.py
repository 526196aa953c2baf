"""Local training: some epochs over a client's own cases, of which the best or the last is reported."""

from dataclasses import dataclass

import numpy as np
import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import control_change
from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.epochs import Epochs, OnStep, torch_randomness
from flames_cli.learn.local_updates import LocalUpdate, make_local_update
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.optimisers import make_optimiser
from flames_cli.learn.predict import Validation
from flames_cli.learn.train_options import ENOUGH_PATIENTS, LocalRound, TrainResult
from flames_cli.learn.training_loss import OtherStyle


def train_epochs(
    model: SegmentationModel,
    train: ShardDataset,
    val: ShardDataset,
    local: LocalRound,
    device: torch.device,
    precision: Precision,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Train `model` (already on `device`, changed in place) with a new optimiser.

    The best epoch has the highest mean Dice on `val`; equal Dice is decided by the lowest loss. `keep_epoch`
    decides whether it is reported, or the last one (`selects_best`). Test sets are never used here. The same
    options, weights and cases give the same result on a CPU.

    Args:
        model: the model with the received weights.
        train: cases to train on.
        val: cases by which the epoch is selected; may be empty.
        local: the client's round with its options.
        device: device of the model.
        precision: precision of the model's arithmetic.
        on_step: function that is called after every step.

    Returns:
        The weights to report, with the numbers that describe the training.

    Raises:
        FlamesError: no training cases, or a loss that is not finite.
    """
    if not len(train):
        raise FlamesError(
            f"client {local.client} has no training cases; partition again with another --split"
        )
    options, controls = local.options, local.controls
    start = to_weights(model) if controls else {}
    local_update = _make_local_update(model, local)
    other = OtherStyle(model, local.style) if local.style else None
    if local.rule_state:
        local_update.load_state(local.rule_state)
    training = Epochs(
        model=model,
        local_update=local_update,
        train=train,
        val=val,
        local=local,
        device=device,
        precision=precision,
        on_step=on_step,
        style=other,
    )
    local_update.n_steps = training.steps
    received = training.validate()
    selected = _train_and_select(training)
    change, weights = None, selected.weights
    if controls:
        change = control_change(start, weights, controls.server, selected.steps, options.lr)
    if options.precise_norm and local_update.changes_report:
        with torch_randomness(local, device):
            weights = estimate_statistics(model, weights, train, options.batch_size, device, precision)
    return TrainResult(
        weights=weights,
        n_examples=len(train),
        n_steps=selected.steps,
        best_epoch=selected.epoch,
        train_loss=selected.loss,
        received=received,
        trained=selected.trained,
        control_change=change,
        notes=tuple(training.notes),
        rule_state=selected.rule_state,
    )


def selects_best(keep_epoch: str, val: ShardDataset) -> bool:
    """Return whether the best epoch is reported, for `keep_epoch` auto, best or last; else the last one is.

    With auto, validation must be over ENOUGH_PATIENTS patients: the noise of few patients would select an
    epoch by chance, and its later steps would be lost.
    """
    least = {"auto": ENOUGH_PATIENTS, "best": 1}
    return keep_epoch in least and val.n_patients >= least[keep_epoch]


def _train_and_select(training: Epochs) -> "_SelectedEpoch":
    """Train all epochs and return the one to report.

    Raises:
        FlamesError: there is no epoch, or a loss is not finite.
    """
    local = training.local
    n_epochs = local.options.local_epochs
    by_validation = selects_best(local.options.keep_epoch, training.val)
    selected: _SelectedEpoch | None = None
    rule = training.local_update
    with torch_randomness(local, training.device):
        for epoch in range(1, n_epochs + 1):
            loss = training.run_epoch(epoch)
            if not by_validation and epoch < n_epochs:
                continue
            trained = training.validate()
            rank = (-trained.dice, trained.loss) if trained else (0.0, 0.0)
            if selected is None or rank < selected.rank:
                selected = _SelectedEpoch(
                    rank=rank,
                    epoch=epoch,
                    steps=training.done,
                    weights=rule.weights(),
                    loss=loss,
                    trained=trained,
                    rule_state=rule.state() if rule.keeps_state else None,
                )
    if selected is None:
        raise FlamesError(f"client {local.client} was asked to train {n_epochs} epochs, expected at least 1")
    return selected


def _make_local_update(model: SegmentationModel, local: LocalRound) -> LocalUpdate:
    options, controls = local.options, local.controls
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(options.optimiser, trained, options.lr, options.weight_decay)
    correction = None
    if controls:
        # numpy makes a number of a difference of arrays without dimensions, which a plug-in's model may have.
        correction = {
            name: np.asarray(control - controls.client[name]) for name, control in controls.server.items()
        }
    return make_local_update(local.rule, model, optimiser, options.proximal_mu, correction)


@dataclass(frozen=True, slots=True)
class _SelectedEpoch:
    """The best epoch so far, whose weights would be reported."""

    rank: tuple[float, float]
    """Order of the epochs: the lowest is selected."""
    epoch: int
    steps: int
    weights: Weights
    loss: float
    trained: Validation | None
    rule_state: Weights | None = None
