"""Whole loops of training, data and all: the authors' way, and the toolkit's own."""

import time

import numpy as np
import torch

from flames_cli.core.rng import derive_rng
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import MEAN, STD, ShardDataset
from flames_cli.learn.devices import pick_precision, place
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.learn.training_loss import training_loss
from gpu_parts.inputs import Job, draw_cases
from gpu_parts.meter import Meter, Row
from gpu_parts.running import Run
from gpu_parts.timing import peak_gb, reset_peak, synchronise, wall_seconds

PLAIN_STEPS, TOOLKIT_STEPS = 8, 16


def run_plain(job: Job, run: Run, meter: Meter) -> Row:
    """Time a loop as the authors wrote theirs, with torch's defaults.

    One thread prepares a batch in numpy, then the device trains on it in float32 with plain Adam, then the
    loss is asked for.
    """
    device, steps = run.device, 2 if run.toy else PLAIN_STEPS
    reset_peak(device)
    model = job.build().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    dataset = ShardDataset([draw_cases(job.batch, job.size)])
    rng = derive_rng(0, "plain loop")

    def step() -> None:
        examples = [dataset.example(i, draw_warp(rng)) for i in range(job.batch)]
        images = torch.from_numpy(np.stack([image for image, _ in examples]))[:, None]
        masks = torch.from_numpy(np.stack([mask for _, mask in examples]))[:, None].float()
        optimiser.zero_grad()
        loss = training_loss(model, ((images - MEAN) / STD).to(device), masks.to(device))
        loss.backward()
        optimiser.step()
        loss.item()

    step()
    seconds = wall_seconds(lambda: [step() for _ in range(steps)], device) / steps
    return _end_to_end("authors' way: fp32, augmented in one thread", job, seconds, device, meter, "tf32")


def run_toolkit(job: Job, run: Run, meter: Meter, compile: str = "off") -> Row:
    """Time one epoch of the toolkit's own training as `flames federate` would run it here.

    The epoch holds what a round holds: validation before and after, and the weights' way back to the CPU.
    """
    device, steps = run.device, 2 if run.toy else TOOLKIT_STEPS
    precision = pick_precision("auto", device, job.model)
    model = place(job.build(), device, precision)
    train, val = (ShardDataset([draw_cases(n * job.batch, job.size)]) for n in (steps, 1))
    options = TrainOptions(batch_size=job.batch)
    local = LocalRound(seed=0, round=1, client="a", options=options, compile=compile)
    # As in the rounds after the first: the data are on the device, and steps are recorded.
    first = wall_seconds(lambda: train_epochs(model, train, val, local, device, precision), device)
    marks: list[float] = []
    reset_peak(device)
    synchronise(device)
    started = time.perf_counter()
    train_epochs(model, train, val, local, device, precision, lambda *_: marks.append(time.perf_counter()))
    synchronise(device)
    seconds = (time.perf_counter() - started) / steps
    row = _end_to_end(
        f"toolkit end to end, {precision}{', compiled' if compile == 'on' else ''}",
        job,
        seconds,
        device,
        meter,
        roof_of(precision),
    )
    within = (marks[-1] - marks[0]) / (len(marks) - 1)
    return row | {"images_s_within_the_epoch": job.batch / within, "first_epoch_s": first}


def roof_of(precision: str) -> str:
    """Name the roof of the toolkit's precision; its fp32 lets convolutions use TF32, as torch does."""
    return "bf16" if precision == "bf16" else "tf32"


def _end_to_end(name: str, job: Job, seconds: float, device: torch.device, meter: Meter, roof: str) -> Row:
    images_s = job.batch / seconds
    row = {"setup": name, "batch": job.batch, "images_s": images_s, "step_ms": seconds * 1000}
    return {**row, "peak_gb": peak_gb(device), **meter.rate(images_s, roof)}
