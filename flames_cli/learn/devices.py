"""Choice of the device and of the precision of training."""

import os
from typing import Literal, TypeVar

import torch
from torch import nn

from flames_cli.core.allocator import keep_freed_memory
from flames_cli.core.cores import available_cores
from flames_cli.errors import FlamesError

Precision = Literal["fp32", "bf16"]
Model = TypeVar("Model", bound=nn.Module)
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


def pick_device(name: str) -> torch.device:
    """Return the device `name` of DEVICES; "auto" takes CUDA, else MPS, else the CPU.

    Of several CUDA devices it is this thread's current one, with its number.

    Raises:
        FlamesError: the name is unknown, or this machine has no such device.
    """
    limit_threads()
    available = _available()
    if name == "auto":
        name = available[0]
    if name not in DEVICES:
        raise FlamesError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if name not in available:
        raise FlamesError(
            f"no device {name} here: this machine has {', '.join(available)}; use one of these, or auto"
        )
    return torch.device("cuda", _current_gpu()) if name == "cuda" else torch.device(name)


def _current_gpu() -> int:
    """Return the number of this thread's CUDA device, without starting CUDA: a process may still fork."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.current_device() if started else 0


def limit_threads() -> None:
    """Let torch use no more threads than this process may use cores, unless the user has set a number.

    Torch counts the cores of the affinity mask, and not those of a container's quota: with the threads of
    64 cores and the time of 4, threads wait for each other most of the time.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > (cores := available_cores()):
        torch.set_num_threads(cores)


def use_gpu(number: int) -> None:
    """Make CUDA device `number` the one that `pick_device` returns in this thread."""
    torch.cuda.init()  # type: ignore[no-untyped-call]
    torch.cuda.set_device(number)


def count_gpus() -> int:
    """Return the number of CUDA devices of this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def pick_precision(name: str, device: torch.device, model_name: str) -> Precision:
    """Return the precision `name` of PRECISIONS for training `model_name` on `device`.

    "auto" takes bf16 on a CUDA device with native bfloat16, and for a densenet-unet on a CPU with bfloat16
    instructions; otherwise fp32. Measured with `benchmarks/train.py` on 2 cores with AVX2 and without such
    instructions: bf16 trains a unet (96×96) at 0.07 to 0.09 of the speed of fp32, and a densenet-unet
    (240×240) at about 0.1 to 0.3; channels-last memory changes it by a tenth either way. CUDA devices and
    CPUs with these instructions are not measured. On such a CPU a unet uses fp32, since it is fast enough.

    Raises:
        FlamesError: the name is unknown, or the device does not support the precision.
    """
    if name not in PRECISIONS:
        raise FlamesError(f"unknown precision {name!r}: choose one of {', '.join(PRECISIONS)}")
    if name == "bf16" and not _runs_bf16(device):
        raise FlamesError(f"device {device.type} does not run bf16: use --precision fp32 or auto")
    if name == "auto":
        return "bf16" if _gains_from_bf16(device, model_name) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def place(model: Model, device: torch.device, precision: Precision) -> Model:
    """Move `model`, in place, to `device` in the memory format that is fastest there, and return it.

    Every model is placed here before its first use, so the process also keeps freed memory from here on.

    In float32 on a CPU, layers compute in the memory format of their weights, whatever the images have.
    Channels-last is faster, with one exception: a `wide` model on a CPU without AVX-512
    (docs/performance.md).
    """
    keep_freed_memory()
    last = memory_format(device, precision) == torch.channels_last
    if device.type == "cpu":
        last = last or _has_avx512() or not getattr(model, "wide", False)
    last = last and getattr(model, "channels_last", True)
    return model.to(device).to(memory_format=torch.channels_last if last else torch.contiguous_format)


def memory_format(device: torch.device, precision: Precision) -> torch.memory_format:
    """Return the memory format of images: channels-last on CUDA and for bfloat16, else contiguous."""
    last = device.type == "cuda" or precision == "bf16"
    return torch.channels_last if last else torch.contiguous_format


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 where torch considers it safe, or plain float32.

    The backward pass and the optimiser's step must be outside the context.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _available() -> list[str]:
    """Return the names of the available devices, the fastest first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, available in there.items() if available]


def _runs_bf16(device: torch.device) -> bool:
    return device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported())


def _gains_from_bf16(device: torch.device, model_name: str) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and model_name == "densenet-unet" and _has_bf16_instructions()


def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _has_bf16_instructions() -> bool:
    """Return whether torch reports native bfloat16 multiplication on this CPU (AVX512_BF16 or AMX_BF16)."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    # Older releases of torch have only these private functions; a missing function counts as False.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in names if hasattr(torch.cpu, name))


def describe_devices() -> list[str]:
    """Return one line for each accelerator that torch finds, with its memory."""
    lines = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        lines.append("mps")
    return lines or ["no accelerator"]
