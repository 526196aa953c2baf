"""Timing of work on a device, its settings, and what happens if memory runs out."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")

LEAST, MOST = 5, 40
"""Steps that are timed."""

OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that `work` takes by the clock on the wall, the device's part included."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def median_seconds(
    step: Callable[[], object], device: torch.device, seconds: float, least: int = LEAST
) -> float:
    """Return the median time of a step, after two that warm up; about `seconds` are spent on it.

    On CUDA the device's own events stand between the steps, so that no step waits for the one before.
    """
    step()
    pace = max(wall_seconds(step, device), 1e-6)
    count = min(max(int(seconds / pace), least), MOST)
    if device.type != "cuda":
        return statistics.median(wall_seconds(step, device) for _ in range(count))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    synchronise(device)
    return statistics.median(start.elapsed_time(end) / 1000 for start, end in pairwise(marks))


@contextmanager
def backend(tf32: bool, benchmark: bool = False) -> Iterator[None]:
    """Allow TF32 in products and convolutions or not, and let cuDNN try its algorithms out or not.

    Both are as before afterwards. Left alone, PyTorch allows TF32 in convolutions and not in products.
    """
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = tf32, tf32, benchmark
    try:
        yield
    finally:
        products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def halving(work: Callable[[int], T], batch: int, say: Callable[[str], None]) -> T:
    """Return what `work` makes of `batch`, which is halved each time that the device's memory runs out."""
    while True:
        try:
            return work(batch)
        except OUT_OF_MEMORY:
            if batch == 1:
                raise
        # Out here, where the error no longer holds the frames and with them the tensors.
        batch //= 2
        clear()
        say(f"  out of memory: goes on with a batch of {batch}")


def clear() -> None:
    """Give back what memory is no longer used, that of compiled models included."""
    if "torch._dynamo" in sys.modules:  # else nothing was compiled, and its import takes seconds
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak(device: torch.device) -> None:
    """Forget the highest use of memory so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Return the most memory that tensors took since `reset_peak`, in 10^9 bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
