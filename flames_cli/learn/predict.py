"""Prediction and validation, without gradients."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flames_cli.arrays import Mask
from flames_cli.core.imaging.components import largest_component
from flames_cli.core.scores.metrics import EPSILON
from flames_cli.learn.batches import batches_on, is_async
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision, autocast, memory_format
from flames_cli.learn.loss_registry import Loss
from flames_cli.learn.losses import make_loss
from flames_cli.learn.train_options import TrainOptions

THRESHOLD = 0.5

Tta = Literal["none", "flips"]
"""Test-time augmentation: none, or the mean of the probabilities of the image and its three flips."""

FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes of B×C×H×W that are reversed: none, left and right, top and bottom, both."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Rule that turns the images into masks, in addition to the model."""

    threshold: float = THRESHOLD
    """Probability above which a pixel is tumour, in (0, 1)."""
    tta: Tta = "none"
    largest_only: bool = False
    """True: only the largest connected part of each mask stays."""

    def mask(self, probabilities: NDArray[np.float32]) -> Mask:
        """Return the mask, of 0 and 1, of the probabilities of one image, H×W."""
        mask: Mask = (probabilities > self.threshold).astype(np.uint8)
        return largest_component(mask) if self.largest_only else mask


@dataclass(frozen=True, slots=True)
class Validation:
    """Mean loss and mean Dice over `n_cases` cases; the Dice is of masks at THRESHOLD.

    The loss is that of each batch, weighted by the number of its cases.
    """

    loss: float
    dice: float
    n_cases: int
    n_patients: int = 0
    dice_small: float | None = None
    """Mean Dice over the cases whose lesions are small by the rule of their data set; None without any."""
    n_small: int = 0
    """Number of cases whose lesions are small."""

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Return the numbers that a client reports, with `prefix` before the names of loss and Dice."""
        small = {} if self.dice_small is None else {f"{prefix}val_dice_small": self.dice_small}
        return {
            f"{prefix}val_loss": self.loss,
            f"{prefix}val_dice": self.dice,
            **small,
            "n_val": float(self.n_cases),
            "n_val_patients": float(self.n_patients),
            "n_val_small": float(self.n_small),
        }


def predict_probabilities(
    model: nn.Module,
    dataset: ShardDataset,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    order: Sequence[int] | None = None,
    tta: Tta = "none",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (probabilities, masks), each B×1×H×W float32 on `device`, of the cases in `order` (None: all)."""
    model.eval()
    wanted = range(len(dataset)) if order is None else order
    for images, masks in batches_on(device, precision, dataset, wanted, batch_size):
        yield forward(model, images, device, precision, tta), masks


def forward(
    model: nn.Module, images: Tensor, device: torch.device, precision: Precision, tta: Tta = "none"
) -> Tensor:
    """Return the probabilities of tumour, B×1×H×W float32 on `device`, by a model in evaluation mode.

    Every prediction is made here: those of `evaluate`, of validation and of `predict` cannot differ.

    Args:
        model: the model, on `device`.
        images: B×C×H×W in [-1, 1], on any device (see `data.to_inputs`).
        device: device of the model.
        precision: precision of the arithmetic.
        tta: test-time augmentation.
    """
    with torch.inference_mode(), autocast(device, precision):
        return _forward(model, images.to(device, memory_format=memory_format(device, precision)), tta)


def _forward(model: nn.Module, inputs: Tensor, tta: Tta) -> Tensor:
    """Return the probabilities of `inputs`; if they exceed the device's memory, half of them at a time."""
    try:
        found: Tensor = model(inputs).float() if tta == "none" else _mean_of_flips(model, inputs)
        return found
    except torch.OutOfMemoryError:
        if len(inputs) == 1:
            raise
    # Here the error is gone, and with it the tensors of the pass that failed.
    return torch.cat([_forward(model, part, tta) for part in inputs.tensor_split(2)])


def to_cpu_behind(found: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield each tensor of `device` on the CPU; a GPU already computes the next one meanwhile."""
    if not is_async(device):
        yield from (one.cpu() for one in found)
        return
    ready: tuple[Tensor, torch.cuda.Event] | None = None
    for one in found:
        copied = torch.empty(one.shape, dtype=one.dtype, pin_memory=True).copy_(one, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        if ready:
            ready[1].synchronize()
            yield ready[0]
        ready = (copied, event)
    if ready:
        ready[1].synchronize()
        yield ready[0]


def _mean_of_flips(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the mean of the probabilities of B×C×H×W inputs and their flips, each turned back."""
    total = torch.zeros((), device=inputs.device)
    for axes in FLIPS:
        total = total + model(inputs.flip(axes)).float().flip(axes)
    return total / len(FLIPS)


def validate(
    model: nn.Module,
    dataset: ShardDataset,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    loss: Loss,
    order: Sequence[int] | None = None,
) -> Validation:
    """Return loss and Dice of `model` on the cases in `order` (None: all), at least one, of `dataset`."""
    losses, counts = list[Tensor](), list[Tensor]()
    cases = range(len(dataset)) if order is None else order
    for probabilities, masks in predict_probabilities(model, dataset, batch_size, device, precision, cases):
        losses.append(loss(probabilities, masks))
        counts.append(_count_pixels(probabilities, masks))
    # Read once: a GPU that is asked after each batch waits for the next one.
    total = 0.0
    for one, pixels in zip(torch.stack(losses).tolist(), counts, strict=True):
        total += one * pixels.shape[1]
    dice: list[float] = _dice_of_counts(torch.cat(counts, dim=1)).tolist()
    small = [one for case, one in zip(cases, dice, strict=True) if dataset.lesion(case) == "small"]
    return Validation(
        loss=total / len(cases),
        dice=fmean(dice),
        n_cases=len(cases),
        n_patients=dataset.count_patients(cases),
        dice_small=fmean(small) if small else None,
        n_small=len(small),
    )


def validate_by(
    model: nn.Module,
    dataset: ShardDataset,
    options: TrainOptions,
    device: torch.device,
    precision: Precision,
    order: Sequence[int] | None = None,
) -> Validation:
    """Return what `validate` does, with the batches and the loss of a client's `options`."""
    return validate(model, dataset, options.batch_size, device, precision, make_loss(options), order)


def _count_pixels(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return two rows with a number for each case: the overlap's pixels, and those of both masks together."""
    predicted, truth = (probabilities > THRESHOLD).flatten(1), (masks > 0).flatten(1)
    return torch.stack([(predicted & truth).sum(1), predicted.sum(1) + truth.sum(1)])


def _dice_of_counts(counts: Tensor) -> Tensor:
    """Return Dice of each case, equal to `core.scores.metrics.dice`, computed on the CPU in float64."""
    overlap, both = counts.cpu().double()  # Apple's MPS has no float64
    dice: Tensor = (2 * overlap + EPSILON) / (both + EPSILON)
    return dice
