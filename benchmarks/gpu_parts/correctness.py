"""Section correctness: what the device computes beside what the CPU computes, in float32 without TF32."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flames_cli.core.scores.metrics import dice
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision, autocast, memory_format, place
from flames_cli.learn.models import MODELS
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.predict import THRESHOLD, predict_probabilities
from flames_cli.learn.segment import Segmenter
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions, TrainResult
from flames_cli.learn.training_loss import training_loss
from gpu_parts.inputs import SMALL, copy_of, draw_batch, draw_cases, same_noise, without_dropout
from gpu_parts.running import Clock, Run, align
from gpu_parts.timing import backend, clear

CPU = torch.device("cpu")

LIMIT = 1e-3
"""Limit of the relative error of losses and gradients of one pass."""

TRAINED_LIMIT = 1e-2
"""Limit of the relative error of losses after steps of Adam, which also follows gradients that are noise."""

DICE_LIMIT = 5e-3
"""Limit of the mean difference in Dice: a pixel whose probability is 0.5 may fall on either side."""

NOISE_FACTOR = 10.0
"""An error is let pass up to so many times what the CPU differs from itself in the other memory layout."""

STEPS = 3


@dataclass(frozen=True, slots=True)
class Bench:
    """Values that the checks of a run share."""

    device: torch.device
    size: int
    batch: int
    toy: bool

    def build(self, name: str) -> SegmentationModel:
        """Return model `name` on the CPU, without dropout; small in a toy run."""
        return without_dropout(copy_of(name, SMALL[name] if self.toy else {}))

    def place(self, model: SegmentationModel, device: torch.device) -> SegmentationModel:
        """Put `model` on a device as the toolkit does for float32."""
        return place(model, device, "fp32")

    def cases(self, n: int, seed: int = 0) -> ShardDataset:
        """Return `n` cases of the bench's size."""
        return ShardDataset([draw_cases(n, self.size, seed=seed)])


def check(run: Run, _: Clock) -> list[str]:
    """Compare every model's loss, gradients, training and prediction, then the local rules."""
    bench = Bench(run.device, 32 if run.toy else 96, 2 if run.toy else 4, run.toy)
    figures: dict[str, Any] = run.figures.setdefault("correctness", {})
    problems: list[str] = []
    with backend(tf32=False):
        for name in models_for(run.toy):
            figures[name] = found = check_model(bench, name)
            run.say(f"{name}: " + ", ".join(f"{key} {value:.2g}" for key, value in found.items()))
            problems += judge_model(name, found)
            clear()
        figures["paths"] = paths = check_paths(bench, run)
        problems += [f"{path}: {error:.2g}" for path, error in paths.items() if not error <= TRAINED_LIMIT]
    figures["problems"] = problems
    if problems:
        raise AssertionError("; ".join(problems))
    return summary(figures, models_for(run.toy))


def models_for(toy: bool) -> list[str]:
    """Return the models to check; a toy run leaves out the paper's, which has no small form."""
    return [name for name in MODELS if not (toy and name == "densenet-unet")]


def summary(figures: dict[str, Any], models: Iterable[str]) -> list[str]:
    """Return the table of errors by model."""
    columns = ("loss", "gradient", "bf16 gradient", "trained", "dice")
    rows = [["relative error", *columns]]
    rows += [[name, *(f"{figures[name][column]:.1e}" for column in columns)] for name in models]
    return align(rows)


def check_model(bench: Bench, name: str) -> dict[str, float]:
    """Return the errors of the device beside the CPU, by what is compared."""
    model = bench.place(bench.build(name), CPU)
    images, masks = draw_batch(bench.size, bench.batch, CPU)
    loss, gradient = differentiate(model, images, masks, CPU, "fp32")
    _, again = differentiate(
        model.to(memory_format=torch.contiguous_format),
        images,
        masks,
        CPU,
        "fp32",
        torch.contiguous_format,
    )
    there = bench.place(bench.build(name), bench.device)
    device_loss, device_gradient = differentiate(there, images, masks, bench.device, "fp32")
    bf16_loss, bf16_gradient = differentiate(there, images, masks, bench.device, "bf16")
    del there, model
    return {
        "loss": abs(device_loss - loss) / abs(loss),
        "gradient": relative_error(device_gradient, gradient),
        "cpu's own gradient noise": relative_error(again, gradient),
        "bf16 loss": abs(bf16_loss - loss) / abs(loss),
        "bf16 gradient": relative_error(bf16_gradient, gradient),
        **check_training(bench, name),
    }


def judge_model(name: str, found: dict[str, float]) -> list[str]:
    """Return what is beyond its limit; NaN is beyond any."""
    limit = max(LIMIT, NOISE_FACTOR * found["cpu's own gradient noise"])
    limits = {"loss": LIMIT, "gradient": limit, "trained": TRAINED_LIMIT, "dice": DICE_LIMIT}
    return [f"{name} {key}: {found[key]:.2g}" for key, bound in limits.items() if not found[key] <= bound]


def differentiate(
    model: SegmentationModel,
    images: Tensor,
    masks: Tensor,
    device: torch.device,
    precision: Precision,
    layout: torch.memory_format | None = None,
) -> tuple[float, Tensor]:
    """Return the training loss of a batch in training mode, and the gradient of all parameters in one row."""
    model.train()
    model.zero_grad(set_to_none=True)
    layout = layout or memory_format(device, precision)
    with same_noise(), autocast(device, precision):
        inputs = images.to(device).contiguous(memory_format=layout)
        loss = training_loss(model, inputs, masks.to(device))
    loss.backward()
    gradients = [
        (torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten().cpu().double()
        for p in model.parameters()
    ]
    return float(loss.detach()), torch.cat(gradients)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm())


def check_training(bench: Bench, name: str) -> dict[str, float]:
    """Return the errors of losses after a few real steps, and of the Dice of the predictions of one model."""
    here, there = (train(bench, name, device) for device in (CPU, bench.device))
    train_set = bench.cases(STEPS * bench.batch)
    scores = []
    for device in (CPU, bench.device):
        model = bench.place(bench.build(name), device)
        load_weights(model, here.weights)
        batches = predict_probabilities(model, train_set, bench.batch, device, "fp32")
        masks = (one > THRESHOLD for batch, _ in batches for one in batch[:, 0].cpu().numpy())
        scores.append([dice(mask, train_set.example(i)[1]) for i, mask in enumerate(masks)])
    return {
        "trained": trained_error(here, there),
        "dice": float(np.abs(np.subtract(*scores)).mean()),
        "dice at most": float(np.abs(np.subtract(*scores)).max()),
    }


def train(
    bench: Bench, name: str, device: torch.device, rule: str = "plain", style: bool = False, **changes: Any
) -> TrainResult:
    """Train for a few steps with the toolkit's own function, in float32; `changes` are its options."""
    model = bench.place(bench.build(name), device)
    weights = to_weights(model)
    controls = style_weights = None
    if rule == "scaffold":
        parameters = {key: np.full_like(weights[key], 1e-3) for key, _ in model.named_parameters()}
        controls = Controls(parameters, {key: np.zeros_like(array) for key, array in parameters.items()})
    if style:
        style_weights = {key: weights[key] for key in weights if key in model.renderer_entries()}
    options = TrainOptions(batch_size=bench.batch, **changes)
    local = LocalRound(0, 1, "a", options, rule, controls=controls, style=style_weights)
    with same_noise():
        return train_epochs(
            model,
            bench.cases(STEPS * bench.batch),
            bench.cases(bench.batch, seed=1),
            local,
            device,
            "fp32",
        )


def trained_error(here: TrainResult, there: TrainResult) -> float:
    """Return the largest relative error among the losses before, in and after training."""
    pairs: Iterable[tuple[float, float]] = [
        (there.train_loss, here.train_loss),
        *(
            (one.loss, other.loss)
            for one, other in ((there.received, here.received), (there.trained, here.trained))
            if one and other
        ),
    ]
    return max(abs(found - expected) / abs(expected) for found, expected in pairs)


def check_paths(bench: Bench, run: Run) -> dict[str, float]:
    """Return the errors of what else of the toolkit runs on a device: rules, another's style, features."""
    small = replace(bench, toy=True)
    rules: dict[str, dict[str, Any]] = {
        "fedgs, precise norm, adamw": {
            "rule": "fedgs",
            "precise_norm": True,
            "optimiser": "adamw",
            "weight_decay": 0.01,
        },
        "fedprox": {"rule": "fedprox", "proximal_mu": 0.1},
        "scaffold, sgd": {"rule": "scaffold", "optimiser": "sgd", "lr": 1e-3},
        "per-pixel focal": {"per_pixel_focal": True},
    }
    errors: dict[str, float] = {}
    for path, changes in rules.items():
        here, there = (train(small, "unet", device, **changes) for device in (CPU, bench.device))
        errors[path] = max(trained_error(here, there), weights_error(here, there))
        run.say(f"{path}: {errors[path]:.2g}")
    here, there = (train(small, "sdnet", device, style=True) for device in (CPU, bench.device))
    errors["style"] = trained_error(here, there)
    errors["features"] = features_error(small)
    run.say(f"another client's style: {errors['style']:.2g}, features: {errors['features']:.2g}")
    return errors


def weights_error(here: TrainResult, there: TrainResult) -> float:
    """Return the relative error of all floats that are reported."""
    names = [name for name, array in here.weights.items() if array.dtype.kind == "f"]
    rows = [
        torch.cat([torch.from_numpy(result.weights[name]).double().flatten() for name in names])
        for result in (there, here)
    ]
    return relative_error(*rows)


def features_error(bench: Bench) -> float:
    """Return the relative error of the bottleneck's features as `flames tsne` asks for them."""
    data = bench.cases(bench.batch)
    features = []
    for device in (bench.device, CPU):
        segmenter = Segmenter("unet", SMALL["unet"], device.type, "fp32", bench.batch)
        weights = to_weights(bench.build("unet"))
        features.append(torch.from_numpy(segmenter.features(weights, data, range(len(data)))).double())
    return relative_error(*features)
