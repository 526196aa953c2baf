"""Section operations: the ten dearest operations of the fastest setup, and of the toolkit's path of today."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import pick_precision, place
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from gpu_parts.inputs import Job, draw_cases, main_job
from gpu_parts.running import Clock, OutOfTimeError, Run, align
from gpu_parts.setups import EAGER, Setup, Trainer
from gpu_parts.timing import clear, halving, synchronise, wall_seconds

TOP = 10
STEPS = 3
NAME_LENGTH = 76
COMPILE_S = 20.0
"""A compiled setup, whose code lies in torch's cache, is profiled only with so much time left."""

ANNOTATIONS = ("Optimizer.", "## ", "ProfilerStep", "Torch-Compiled")
"""Spans that hold other operations and no work of their own."""


def list_operations(run: Run, clock: Clock) -> list[str]:
    """Profile a few steps of both paths; print and return their tables."""
    job = main_job(run.toy)
    figures, lines = run.figures.setdefault("operations", {}), []
    setup, fused, batch = _choose(run, clock, job)

    def best(batch: int) -> dict[str, Any]:
        return profile_setup(job.with_batch(batch), setup, fused, run)

    def toolkit(batch: int) -> dict[str, Any]:
        return profile_toolkit(job.with_batch(batch), run)

    paths: dict[str, Callable[[int], dict[str, Any]]] = {
        f"{setup.name}{', fused Adam' if fused else ''}": best,
        "toolkit's training": toolkit,
    }
    compiled = best if setup.compiled and run.device.type == "cuda" else None
    failure: Exception | None = None
    for name, work in paths.items():
        try:
            figures[name] = found = halving(work, batch, run.say)
            # Compiled models have few operations of torch's own: their kernels' names say more.
            shown = "kernels" if work is compiled else "operations"
            lines += [f"{job.model}, {name}: {_head(found)}", *_table(found[shown])]
            run.say("\n".join([f"{name}: {_head(found)}", *_table(found["operations"]), "kernels:"]))
            run.say("\n".join(_table(found["kernels"])))
        except OutOfTimeError:
            raise
        except Exception as error:
            run.say(f"{name} FAILED: {type(error).__name__}: {error}")
            failure = error
        clear()
    if failure:
        raise failure
    return lines


def _choose(run: Run, clock: Clock, job: Job) -> tuple[Setup, bool, int]:
    """Return the fastest setup that was measured, or where none was, the last one that is not compiled."""
    if run.best is None:
        return EAGER[-2], True, job.batch
    _, setup, fused, batch = run.best
    if setup.compiled and clock.left() < COMPILE_S and not run.toy:
        return EAGER[-1], True, batch
    return setup, fused, batch


def profile_setup(job: Job, setup: Setup, fused: bool, run: Run) -> dict[str, Any]:
    """Profile training steps on a batch that lies on the device."""
    with setup.settings():
        trainer = Trainer(job, setup, run.device)
        trainer.use_adam(fused)
        for _ in range(STEPS):
            trainer.step()
        return profile_work(lambda: [trainer.step() for _ in range(STEPS)], STEPS, run.device)


def profile_toolkit(job: Job, run: Run) -> dict[str, Any]:
    """Profile an epoch of the toolkit's training, validation included."""
    device = run.device
    precision = pick_precision("auto", device, job.model)
    model = place(job.build(), device, precision)
    train, val = (ShardDataset([draw_cases(n * job.batch, job.size)]) for n in (STEPS, 1))
    local = LocalRound(seed=0, round=1, client="a", options=TrainOptions(batch_size=job.batch))

    def work() -> None:
        train_epochs(model, train, val, local, device, precision)

    for _ in range(2):  # the second time, steps are recorded
        work()
    return profile_work(work, STEPS, device)


def profile_work(work: Callable[[], object], steps: int, device: torch.device) -> dict[str, Any]:
    """Return the operations and the kernels of `work`, dearest first, and how busy the device was.

    The wall's time is taken in a run of its own, since profiling slows the CPU.
    """
    seconds = wall_seconds(work, device)
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_cuda else [])
    with profile(activities=activities) as found:
        work()
        synchronise(device)
    events = [event for event in found.key_averages() if not _is_annotation(event)]
    kernels = _rows([event for event in events if not _is_cpu(event)], on_cuda)
    operations = _rows([event for event in events if _is_cpu(event)], on_cuda)
    total = sum(row["ms"] for row in kernels or operations)
    for row in (*kernels, *operations):
        row["share"] = row["ms"] / total if total else 0.0
    return {
        "steps": steps,
        "wall_ms_a_step": seconds * 1000 / steps,
        "device_ms_a_step": total / steps,
        "busy": total / (seconds * 1000),
        "operations": operations[:TOP],
        "kernels": kernels[:TOP],
        "n_kernels_a_step": sum(row["calls"] for row in kernels) / steps,
    }


def _rows(events: list[Any], on_cuda: bool) -> list[dict[str, Any]]:
    rows = [
        {"name": str(event.key), "ms": _self_us(event, on_cuda) / 1000, "calls": int(event.count)}
        for event in events
    ]
    return sorted((row for row in rows if row["ms"] > 0), key=lambda row: -row["ms"])


def _self_us(event: Any, on_cuda: bool) -> float:
    """Return an event's own microseconds; the attribute's name differs between torch's versions."""
    names = ("self_device_time_total", "self_cuda_time_total") if on_cuda else ("self_cpu_time_total",)
    return float(next((getattr(event, name) for name in names if hasattr(event, name)), 0.0))


def _is_cpu(event: Any) -> bool:
    return str(getattr(event, "device_type", "CPU")).endswith("CPU")


def _is_annotation(event: Any) -> bool:
    return bool(getattr(event, "is_user_annotation", False)) or str(event.key).startswith(ANNOTATIONS)


def _head(found: dict[str, Any]) -> str:
    return (
        f"{found['wall_ms_a_step']:.1f} ms a step, of which the device works {found['device_ms_a_step']:.1f} "
        f"({100 * found['busy']:.0f} %) in {found['n_kernels_a_step']:.0f} kernels"
    )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["  none"]
    cells = [
        [row["name"][:NAME_LENGTH], f"{row['ms']:.2f}", f"{100 * row['share']:.1f} %", str(row["calls"])]
        for row in rows
    ]
    return ["  " + line for line in align([["operation", "ms", "share", "calls"], *cells])]
