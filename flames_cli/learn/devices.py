"""Where to train and in which precision."""

from typing import Literal

import torch

from flames_cli.errors import FlamesError

Precision = Literal["fp32", "bf16"]
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


def pick_device(name: str) -> torch.device:
    """The device `name` of DEVICES; "auto" takes CUDA, else MPS, else the CPU.

    Raises FlamesError where the name is unknown or this machine has no such device.
    """
    available = _available()
    if name == "auto":
        return torch.device(available[0])
    if name not in DEVICES:
        raise FlamesError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if name not in available:
        raise FlamesError(f"no device {name} here: this machine has {', '.join(available)}; use one, or auto")
    return torch.device(name)


def pick_precision(name: str, device: torch.device, model_name: str) -> Precision:
    """TODO-measured"""
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for a forward pass: bfloat16 where torch holds it safe, or plain float32.

    The backward pass and the optimiser step belong outside it.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _available() -> list[str]:
    """Best first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, available in there.items() if available]
