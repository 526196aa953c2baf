"""Training speed by precision and memory format: forward, backward and one Adam step, on random images.

    python benchmarks/train.py --model unet --size 96 --batch 16 --steps 8
    python benchmarks/train.py --model densenet-unet --size 240 --batch 4 --steps 3

The variants take turns step by step, so that other load on the machine affects all of them. The result is the
median step of each, after one step of warm-up. On a CPU without bfloat16 instructions, a bf16 step takes
minutes at full size; --fp32-only leaves it out. The last line compares the CPU time of an optimiser's step
with torch's fused kernels, which training uses, and without them.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from flames_cli.learn.devices import DEVICES, Precision, autocast, pick_device
from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.training_loss import training_loss

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """Print images/s of every variant and the ratio to float32 with contiguous memory."""
    options = parse_options()
    device = pick_device(options.device)
    variants = [(precision, layout) for precision in options.precisions for layout in FORMATS]
    steps = {
        variant: make_step(options.model, options.size, options.batch, device, *variant)
        for variant in variants
    }
    seconds = measure(steps, options.steps, device)
    baseline = seconds[variants[0]]
    print(f"{options.model}, {options.batch} images of {options.size}×{options.size}, {describe(device)}")
    for variant in variants:
        speed = options.batch / seconds[variant]
        ratio = baseline / seconds[variant]
        print(f"{' '.join(variant):20} {speed:9.2f} images/s {ratio:6.2f}x")
    plain, fused = (optimiser_seconds(options.model, device, fused) for fused in (False, True))
    print(f"Adam step: {1e3 * plain:.2f} ms, fused {1e3 * fused:.2f} ms of CPU time, {plain / fused:.2f}x")


def parse_options() -> argparse.Namespace:
    """Return the options: model, image size (pixels), batch size, timed steps, precisions and device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="unet")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--fp32-only", action="store_const", dest="precisions", const=("fp32",))
    parser.set_defaults(precisions=("fp32", "bf16"))
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser.parse_args()


def make_step(
    model_name: str, size: int, batch: int, device: torch.device, precision: Precision, layout: str
) -> Callable[[], None]:
    """Return a training step with its own model; all variants start from the same weights and images."""
    model = build_model(model_name, seed=0).to(device).to(memory_format=FORMATS[layout])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 1, size, size, generator=generator).to(device)
    images = images.contiguous(memory_format=FORMATS[layout])
    masks = (images > 0.9).to(torch.uint8)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, precision):
            loss = training_loss(model, images, masks)
        loss.backward()
        optimiser.step()

    return step


def measure(
    steps: dict[tuple[Precision, str], Callable[[], None]], count: int, device: torch.device
) -> dict[tuple[Precision, str], float]:
    """Return the median seconds of a step, by variant."""
    seconds: dict[tuple[Precision, str], list[float]] = {variant: [] for variant in steps}
    for _ in range(count + 1):
        for variant, step in steps.items():
            seconds[variant].append(timed(step, device))
    return {variant: statistics.median(values[1:]) for variant, values in seconds.items()}


def optimiser_seconds(model_name: str, device: torch.device, fused: bool, count: int = 20) -> float:
    """Return the median CPU time in seconds of one step of Adam on all parameters of a model."""
    model = build_model(model_name, seed=0).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    seconds = []
    for _ in range(count):
        start = time.process_time()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of one step, until the device has finished its work."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start


def describe(device: torch.device) -> str:
    """Return the device's name; for a CPU with the threads and vector instructions that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return device.type


if __name__ == "__main__":
    main()
