"""Local training: some epochs over a client's own cases, of which the best or the last is reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.local_rules import control_change
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.epochs import Epochs, OnStep
from flames_cli.learn.local_updates import LocalUpdate, make_local_update
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.optimisers import make_optimiser
from flames_cli.learn.predict import Validation
from flames_cli.learn.train_options import LocalRound, TrainResult
from flames_cli.learn.training_loss import OtherStyle

STATISTICS_IMAGES = 256
"""Number of training images from which the statistics of received weights are estimated, in every round."""


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

    The best epoch has the highest mean Dice on `val`; equal Dice is decided by the lowest loss. Test sets are
    never used here. The same options, weights and cases give the same result on a CPU.

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
    received = _validate_received(training, local, device, precision)
    selected: _SelectedEpoch | None = None
    with torch_randomness(local, device):
        for epoch in range(1, options.local_epochs + 1):
            loss = training.run_epoch(epoch)
            trained = training.validate()
            rank = _rank(trained if options.keep_epoch == "best" else None, epoch)
            if selected is None or rank < selected.rank:
                selected = _SelectedEpoch(
                    rank=rank,
                    epoch=epoch,
                    steps=training.done,
                    weights=local_update.weights(),
                    loss=loss,
                    trained=trained,
                )
    if selected is None:
        raise FlamesError(
            f"client {local.client} was asked to train {options.local_epochs} epochs, expected at least 1"
        )
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
    )


def _validate_received(
    training: Epochs, local: LocalRound, device: torch.device, precision: Precision
) -> Validation | None:
    """Validate the received weights, with the statistics that they have on the client's own images.

    The statistics that come with a blend are those of other weights. Training starts from the weights as
    received, so that this changes none of its results.
    """
    model, options = training.model, local.options
    if not options.precise_norm or not len(training.val):
        return training.validate()
    start = to_weights(model)
    order = derive_rng(local.seed, "statistics", *local.scope).permutation(len(training.train))
    with torch_randomness(local, device):
        estimate_statistics(
            model,
            start,
            training.train,
            options.batch_size,
            device,
            precision,
            sorted(order[:STATISTICS_IMAGES].tolist()),
        )
    received = training.validate()
    load_weights(model, start)
    return received


def _make_local_update(model: SegmentationModel, local: LocalRound) -> LocalUpdate:
    options, controls = local.options, local.controls
    optimiser = make_optimiser(options.optimiser, model.parameters(), options.lr, options.weight_decay)
    correction = None
    if controls:
        correction = {name: control - controls.client[name] for name, control in controls.server.items()}
    return make_local_update(local.rule, model, optimiser, options.proximal_mu, correction)


@dataclass(frozen=True, slots=True)
class _SelectedEpoch:
    """The best epoch so far, whose weights would be reported."""

    rank: tuple[float, float]
    epoch: int
    steps: int
    weights: Weights
    loss: float
    trained: Validation | None


def _rank(validation: Validation | None, epoch: int) -> tuple[float, float]:
    """Return the rank of an epoch; the lowest is selected. Without validation it is the latest epoch."""
    return (-validation.dice, validation.loss) if validation else (0.0, float(-epoch))


@contextmanager
def torch_randomness(local: LocalRound, device: torch.device) -> Iterator[None]:
    """Seed torch's generators (for dropout) by the client and round, and restore their state afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(local.seed, "torch", *local.scope))
        yield
