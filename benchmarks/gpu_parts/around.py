"""Section around: where the time of one epoch of the toolkit's training goes, piece by piece."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from flames_cli.core.rng import derive_rng
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import STD, ShardDataset, iterate_batches
from flames_cli.learn.device_shard import DeviceShard
from flames_cli.learn.devices import autocast, memory_format, pick_precision, place
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.predict import validate
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.learn.training_loss import training_loss
from flames_cli.store.cases import CaseSet
from flames_cli.store.h5 import read_shard_sets, read_shard_summary
from gpu_parts.inputs import Job, draw_batch, main_job, write_toy_shard
from gpu_parts.running import Clock, Run, align
from gpu_parts.shards import find_clients
from gpu_parts.timing import clear, halving, median_seconds, synchronise, wall_seconds

SECONDS = 0.5
"""Seconds of each timing that is repeated."""

N_DRAWN = 768
"""Training cases of the shard that is drawn where none is given."""

WARM_EPOCHS = 5

MOST = 1024
"""Cases of a set that are used; what is timed of the file is its reading whole."""


def take_apart(run: Run, clock: Clock) -> list[str]:
    """Time every piece of a client's epoch by itself, and the whole of it."""
    job = main_job(run.toy)
    figures = run.figures.setdefault("around", {})
    with _shard(job, run) as path:
        seconds, (train, val) = _timed(lambda: [load(path, name) for name in ("train", "val")])
        images = read_shard_summary(path).images
    n, shape = len(train), train.example(0)[0].shape
    size, channels = shape[0], 3 if len(shape) == 3 else 1
    job = Job(job.model, size, min(job.batch, n), {**job.options, "in_channels": channels})
    figures |= {"shard": path.name, "train": n, "val": len(val), "size": size, "model": job.model}
    run.say(f"{path.name}: {n} training and {len(val)} validation cases of {size}×{size}")
    pieces = figures["pieces"] = {"HDF5 → memory": _piece(seconds, images["train"] + images["val"])}
    halving(lambda batch: _measure(job.with_batch(batch), train, val, run, pieces), job.batch, run.say)
    clear()
    if clock.left() > 0:
        figures["warp"] = compare_warps(train, min(job.batch, n), run.device)
        run.say(f"warp on the device beside OpenCV: {figures['warp']}")
    return align([["piece", "ms", "images/s"], *(_cells(name, one) for name, one in pieces.items())])


def load(path: Path, set_name: str) -> ShardDataset:
    """Read a set of a shard as a node does, and keep its first cases."""
    return ShardDataset(
        [
            CaseSet(one.info, one.cases[:MOST], one.images[:MOST], one.masks[:MOST])
            for one in read_shard_sets(path, set_name)
        ]
    )


@contextmanager
def _shard(job: Job, run: Run) -> Iterator[Path]:
    """Yield the largest of the clients' shards that are given, or one that is drawn."""
    found = find_clients(run.shards) if run.shards else []
    if found:
        yield max(found, key=lambda path: path.stat().st_size)
        return
    with TemporaryDirectory() as folder:
        yield write_toy_shard(Path(folder), 8 if run.toy else N_DRAWN, job.size)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def _piece(seconds: float, images: int) -> dict[str, float]:
    return {"seconds": seconds, "images": images, "images_s": images / seconds}


def _measure(
    job: Job, train: ShardDataset, val: ShardDataset, run: Run, pieces: dict[str, dict[str, float]]
) -> None:
    """Time what the toolkit does today."""
    device, n = run.device, len(train)
    precision = pick_precision("auto", device, job.model)

    def note(name: str, seconds: float, images: int) -> None:
        pieces[name] = _piece(seconds, images)
        run.say(f"  {name}: {seconds * 1000:.1f} ms, {images / seconds:.0f} images/s")

    def batches(augment: bool) -> None:
        rng = derive_rng(0, "around")
        draw = (lambda _: draw_warp(rng)) if augment else (lambda _: None)
        for _ in iterate_batches(train, range(n), job.batch, draw, merge_lone=True):
            pass

    few = min(n, 64)
    note("augment, one thread", _timed(lambda: _augment_alone(train, few))[0], few)
    note("batches as they are", _timed(lambda: batches(False))[0], n)
    note("batches augmented, toolkit's threads", _timed(lambda: batches(True))[0], n)
    _time_shard(job, train, run, note)
    seconds, model = _timed(lambda: build_model(job.model, seed=0, **job.options))
    note("build the model (each client, each round)", seconds, n)
    seconds, _ = _timed(lambda: place(model, device, precision))
    note("model → device", seconds, n)
    _time_step(job, model, run, note)
    weights = to_weights(model)
    spent = 0.0 if run.toy else SECONDS  # memory of earlier copies is used again, as in a run
    note("weights → CPU", median_seconds(lambda: to_weights(model), device, spent), n)
    note("weights → model", median_seconds(lambda: load_weights(model, weights), device, spent), n)
    if len(val):
        validate(model, val, job.batch, device, precision, dice_focal_loss)
        seconds = wall_seconds(
            lambda: validate(model, val, job.batch, device, precision, dice_focal_loss), device
        )
        note("validate once (twice a round)", seconds, len(val))
    local = LocalRound(seed=0, round=1, client="a", options=TrainOptions(batch_size=job.batch))
    # First to warm up: steps are recorded after some, and the epoch's last batch has a size of its own.
    times = [
        wall_seconds(lambda: train_epochs(model, train, val, local, device, precision), device)
        for _ in range(WARM_EPOCHS + 1)
    ]
    note("the first epoch, with validation and weights", times[0], n)
    note("a later epoch, with validation and weights", times[-1], n)


def _augment_alone(train: ShardDataset, n: int) -> None:
    rng = derive_rng(0, "around, alone")
    for index in range(n):
        train.example(index, draw_warp(rng))


def _time_step(job: Job, model: torch.nn.Module, run: Run, note: Callable[[str, float, int], None]) -> None:
    """Time forward, backward and Adam's step of a batch on the device, each by itself."""
    device = run.device
    precision = pick_precision("auto", device, job.model)
    images, masks = draw_batch(job.size, job.batch, device, job.options["in_channels"])
    images = images.contiguous(memory_format=memory_format(device, precision))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()
    times: dict[str, list[float]] = {"forward": [], "backward": [], "Adam": []}
    for _ in range(2 + (1 if run.toy else 8)):
        optimiser.zero_grad(set_to_none=True)
        synchronise(device)
        started = time.perf_counter()
        with autocast(device, precision):
            loss = training_loss(model, images, masks)
        for name, work in (("forward", None), ("backward", loss.backward), ("Adam", optimiser.step)):
            if work:
                work()
            synchronise(device)
            times[name].append(time.perf_counter() - started)
            started = time.perf_counter()
    for name, seconds in times.items():
        note(f"{name}, {precision}", float(np.median(seconds[2:])), job.batch)


def _time_shard(job: Job, train: ShardDataset, run: Run, note: Callable[[str, float, int], None]) -> None:
    """Time the way of a data set to the device's memory, and a batch that is warped there."""
    seconds, shard = _timed(lambda: DeviceShard(train, run.device))
    note("data set → device", seconds, len(train))
    rows, rng = range(job.batch), derive_rng(0, "shard")

    def work() -> None:
        shard.batch(rows, [draw_warp(rng) for _ in rows])

    note(
        "batch augmented on the device",
        median_seconds(work, run.device, 0 if run.toy else SECONDS),
        job.batch,
    )


def compare_warps(dataset: ShardDataset, n: int, device: torch.device) -> dict[str, float]:
    """Return how far the device is from OpenCV: grey values in [0, 1], and the share of mask pixels."""
    rng = derive_rng(0, "compare warps")
    warps = [draw_warp(rng) for _ in range(n)]
    ((images, masks),) = iterate_batches(dataset, range(n), n, warps.__getitem__)
    found, found_masks = (one.cpu() for one in DeviceShard(dataset, device).batch(range(n), warps))
    difference = (found - images).abs() * STD
    return {
        "mean grey difference": float(difference.mean()),
        "grey difference of 99 % of the pixels, at most": float(np.quantile(difference.numpy(), 0.99)),
        "mask pixels that differ": float((found_masks != masks).float().mean()),
    }


def _cells(name: str, piece: dict[str, float]) -> list[str]:
    return [name, f"{1000 * piece['seconds']:.1f}", f"{piece['images_s']:.0f}"]
