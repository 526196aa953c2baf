"""Training speed by precision and memory format: forward, backward and one Adam step, on random images.

    python benchmarks/train.py --model unet --size 96 --batch 16 --steps 8
    python benchmarks/train.py --model densenet-unet --size 240 --batch 4 --steps 3

The variants take turns step by step, so that other load on the machine affects all of them. The result is the
median step of each, after one step of warm-up. On a CPU without bfloat16 instructions, a bf16 step takes
minutes at full size; --fp32-only leaves it out. The last line compares the CPU time of an optimiser's step
with torch's fused kernels, which training uses, and without them.

    python benchmarks/train.py --round --size 96 --base-channels 8 --images 128 --val 24

With --round it compares the steps alone with a round of one epoch around them, by CPU time, and shows
what the parts of the round cost. The variants take turns here too; the figures are the least of all repeats.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from gpu_parts.inputs import draw_cases

from flames_cli.core.imaging.geometry import Warp
from flames_cli.core.rng import derive_rng
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.devices import DEVICES, Precision, autocast, pick_device, place
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.normalisation import STATISTICS_IMAGES, own_statistics
from flames_cli.learn.optimisers import make_optimiser
from flames_cli.learn.predict import validate
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.learn.training_loss import training_loss

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """Print images/s of every variant and the ratio to float32 with contiguous memory, or a round's parts."""
    options = parse_options()
    device = pick_device(options.device)
    if options.round:
        show_round(options, device)
        return
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
    parser.add_argument("--round", action="store_true", help="compare a client's round with its steps")
    parser.add_argument("--images", type=int, default=128, help="training images of a round")
    parser.add_argument("--val", type=int, default=24, help="validation images of a round")
    parser.add_argument("--base-channels", type=int, help="option of the model")
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


def show_round(options: argparse.Namespace, device: torch.device) -> None:
    """Print what a client's round costs beside its steps."""
    works = round_parts(options, device)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.steps + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    least = {name: min(values[1:]) for name, values in seconds.items()}
    print(f"{options.model}, {options.images} images of {options.size}×{options.size}, {describe(device)}")
    for name, value in least.items():
        print(f"{name:22} {1e3 * value:8.0f} ms {value / least['steps alone']:6.2f}x")
    for name in ("steps alone", "round"):
        print(f"{name:22} {options.images / least[name]:8.1f} images/s of CPU time")


def round_parts(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a round of one epoch, its steps alone and its other parts, each as a function."""
    chosen = {} if options.base_channels is None else {"base_channels": options.base_channels}
    model = place(build_model(options.model, seed=0, **chosen), device, "fp32")
    weights = to_weights(model)
    train, val = (ShardDataset([draw_cases(n, options.size)]) for n in (options.images, options.val))
    local = LocalRound(0, 1, "a", TrainOptions(batch_size=options.batch))
    images = torch.rand(options.batch, 1, options.size, options.size).to(device)
    some = range(min(options.images, STATISTICS_IMAGES))

    def steps() -> None:
        optimiser = make_optimiser("adam", model.parameters(), 1e-4, None)
        model.train()
        for _ in range(options.images // options.batch):
            optimiser.zero_grad(set_to_none=True)
            training_loss(model, images, images > 0.9).backward()
            optimiser.step()

    def whole_round() -> None:
        load_weights(model, weights)
        train_epochs(model, train, val, local, device, "fp32")

    def batches() -> None:
        for _ in iterate_batches(train, range(options.images), options.batch, draw):
            pass

    def draw(case: int) -> Warp:
        return draw_warp(derive_rng(0, "augment", "a", 1, 1, case))

    def statistics_of_some() -> None:
        with own_statistics(model, train, options.batch, device, "fp32", some):
            pass

    return {
        "steps alone": steps,
        "round": whole_round,
        "augmented batches": batches,
        "statistics (twice)": statistics_of_some,
        "validation (twice)": lambda: validate(model, val, options.batch, device, "fp32", dice_focal_loss),
        "weights to the model": lambda: load_weights(model, weights),
        "weights of the model": lambda: to_weights(model),
    }


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
