"""Section card: which machine this is, and what it can do at the most."""

import datetime
import platform
import shutil
import subprocess
from typing import Any

import numpy as np
import torch

from flames_cli.core.cores import available_cores
from gpu_parts.running import Clock, Run
from gpu_parts.timing import backend, clear, median_seconds

SECONDS = 0.7
"""Seconds of each roof's timing."""


def show_card(run: Run, _: Clock) -> list[str]:
    """Print what the machine is, and measure its roofs: products by precision, and copies."""
    machine = describe_machine(run.device)
    for name, value in machine.items():
        run.say(f"{name}: {value}")
    figures = run.figures["card"] = {"machine": machine, "roofs": {}}
    side = 64 if run.toy else 8192
    roofs = figures["roofs"]
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
    ):
        roofs[name] = measure_product(side, dtype, tf32, run)
        run.say(f"product {side}^3 {name}: {roofs[name]:.4g} TFLOP/s")
    roofs["copy_gb_s"] = measure_copy(2**16 if run.toy else 2**30, run)
    run.say(f"copy on the device, read and written: {roofs['copy_gb_s']:.4g} GB/s")
    clear()
    products = ", ".join(f"{name} {roofs[name]:.3g}" for name in ("bf16", "tf32", "fp32"))
    return [
        f"{machine['card']}, torch {machine['torch']}",
        f"roofs: {products} TFLOP/s, {roofs['copy_gb_s']:.3g} GB/s",
    ]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the card, its memory and driver, and the versions of what runs on it."""
    found: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["card"] = properties.name
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["multiprocessors"] = properties.multi_processor_count
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["driver"] = ask_driver()
    else:
        found["card"] = f"no card: {device.type}"
    return found | {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
    }


def ask_driver() -> str:
    """Return the driver's version and the card's clocks as nvidia-smi tells them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown (no nvidia-smi)"
    query = "--query-gpu=driver_version,clocks.sm,clocks.max.sm,power.limit"
    try:
        answer = subprocess.run(
            [program, query, "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return answer.stdout.strip()


def measure_product(side: int, dtype: torch.dtype, tf32: bool, run: Run) -> float:
    """Return the TFLOP/s of a square product of random matrices."""
    left, right = (torch.randn(side, side, device=run.device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    with backend(tf32):
        seconds = median_seconds(lambda: torch.matmul(left, right, out=out), run.device, SECONDS)
    return 2 * side**3 / seconds / 1e12


def measure_copy(n_bytes: int, run: Run) -> float:
    """Return the GB/s of a copy from the device's memory to itself, counting both ways."""
    source = torch.randint(0, 255, (n_bytes,), dtype=torch.uint8, device=run.device)
    target = torch.empty_like(source)
    return 2 * n_bytes / median_seconds(lambda: target.copy_(source), run.device, SECONDS) / 1e9
