"""Time of `flames evaluate`'s measurements compared with the prediction of the same images.

    python benchmarks/evaluate.py --images 1000 --volumes 8 --size 240

Blobs stand for the masks. `prediction` is a U-Net (16 channels) with random weights, in batches of 64;
`one thread` measures one image after the other; `processes` is what the command does. Ratios are relative to
the prediction.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from flames_cli.core.cores import available_cores
from flames_cli.core.rng import derive_rng
from flames_cli.learn.devices import autocast, memory_format, pick_device, pick_precision
from flames_cli.learn.models import build_model
from flames_cli.stages.evaluate.measuring import (
    MaskPair,
    PredictedImage,
    StackPair,
    Wanted,
    judge_probabilities,
    measure_image,
    measure_volume,
)
from flames_cli.stages.parallel import ordered_map

MIN_IOU = 0.1
BATCH = 64


def main() -> None:
    """Measure still images, then volumes, and print the ratios."""
    options = parse_options()
    device = pick_device(options.device)
    print(f"{options.size}×{options.size} on {device.type}, {available_cores()} cores")
    if options.images:
        drawn = [draw((options.size, options.size), number) for number in range(min(options.images, 64))]
        pairs = [drawn[number % len(drawn)] for number in range(options.images)]
        masks = [MaskPair(p > 0.5, t, (options.size, options.size), (0.5, 0.7)) for p, t in pairs]
        images = [PredictedImage(p, t, True) for p, t in pairs]
        report("images", predict(options.images, options.size, device), [
            (partial(judge_probabilities, MIN_IOU), images),
            (partial(measure_image, Wanted()), masks),
        ])  # fmt: skip
    if options.volumes:
        shape = (options.slices, options.size, options.size)
        stacks = []
        for number in range(options.volumes):
            probabilities, truth = draw(shape, number)
            stacks.append(StackPair(probabilities > 0.5, truth, (2.5, 0.9, 0.9), (200.0, 200.0)))
        seconds = predict(options.volumes * options.slices, options.size, device)
        report("volumes", seconds, [(partial(measure_volume, Wanted()), stacks)])


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def draw(shape: tuple[int, ...], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth probabilities and a true mask that overlaps with them in part."""
    noise = gaussian_filter(derive_rng(number, "benchmark").normal(size=shape), 6).astype(np.float32)
    level = np.quantile(noise, 0.93)
    probabilities = expit(20 * (noise - level) / noise.std())
    truth = np.roll(noise, 4, axis=-1) > level * 1.1
    return probabilities.astype(np.float32), truth.astype(np.uint8)


def predict(n_images: int, size: int, device: torch.device) -> float:
    """Return the seconds in which the model predicts so many images; few of them are computed on a CPU."""
    precision = pick_precision("auto", device, "unet")
    layout = memory_format(device, precision)
    model = build_model("unet", seed=0, base_channels=16).to(device).to(memory_format=layout).eval()
    batch = torch.randn(BATCH if device.type == "cuda" else 4, 1, size, size, device=device)
    batch = batch.to(memory_format=layout)
    steps = 20 if device.type == "cuda" else 3
    with torch.inference_mode(), autocast(device, precision):
        model(batch)
        found = torch.zeros(())
        start = time.perf_counter()
        for _ in range(steps):
            found = model(batch)
        found.cpu()
    return (time.perf_counter() - start) * n_images / (steps * len(batch))


def report(kind: str, predicted: float, work: list[tuple[Callable[..., object], list[object]]]) -> None:
    """Time the measurements in one thread and as the command makes them, and print all."""
    seconds = {"prediction": predicted}
    start = time.perf_counter()
    for function, items in work:
        for item in items:
            function(item)
    seconds["one thread"] = time.perf_counter() - start
    start = time.perf_counter()
    for function, items in work:
        for _ in ordered_map(function, items):
            pass
    seconds["processes"] = time.perf_counter() - start
    for name, took in seconds.items():
        print(f"{len(work[-1][1])} {kind}: {name:10} {took:8.2f} s  {took / predicted:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
