"""Time that FedGS, FedProx and SCAFFOLD add to a client's round, compared with plain training.

    python benchmarks/local_rules.py --size 96 --batch 16 --images 96

The local update rules take turns, round by round, on the same random images. Half of the images have a small
lesion, so that most steps of FedGS have a scale other than 1. The result is the median round of each rule
after one round of warm-up.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.rng import derive_rng
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions
from flames_cli.store.cases import CaseInfo, CaseSet, SetInfo

SGD = TrainOptions(lr=1e-3, optimiser="sgd", keep_epoch="last")

RULES = {
    "plain": ("plain", SGD),
    "plain again": ("plain", SGD),
    "fedgs": ("fedgs", SGD),
    "fedgs as published": ("fedgs", replace(SGD, precise_norm=False)),
    "fedprox": ("fedprox", SGD),
    "scaffold": ("scaffold", SGD),
}
"""Local update rule and options of each measured case."""


def main() -> None:
    """Print the seconds of a round of every rule, and the ratio to plain training."""
    options = parse_options()
    cases, nothing = draw_cases(options.images, options.size), ShardDataset([])
    rounds = {name: make_round(options, *case, cases, nothing) for name, case in RULES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(options.rounds + 1):
        for name, run in rounds.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    print(f"{options.model}, {options.images} images of {options.size}×{options.size}, SGD")
    baseline = statistics.median(seconds["plain"][1:])
    for name, measured in seconds.items():
        median = statistics.median(measured[1:])
        print(f"{name:20}{median:8.2f} s {median / baseline:6.2f}x")


def parse_options() -> argparse.Namespace:
    """Return the options: model, number and size of images, batch size, and rounds of each rule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="unet")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def draw_cases(n: int, size: int) -> ShardDataset:
    """Draw images of noise with one square each; it is small in every second image."""
    rng = derive_rng(0, "benchmark")
    images = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
    masks = np.zeros((n, size, size), np.uint8)
    masks[::2, 5:8, 5:8] = 1
    masks[1::2, : size // 2, : size // 2] = 1
    info = SetInfo("noise", "US", "breast", size, 255, small=SmallLesionRule("area", 100, 100))
    cases = [
        CaseInfo(str(i), str(i), str(i), "", i, (1.0, 1.0), int(mask.sum()), n_lesions=1)
        for i, mask in enumerate(masks)
    ]
    return ShardDataset([CaseSet(info, cases, images, masks)])


def make_round(
    options: argparse.Namespace, rule: str, training: TrainOptions, cases: ShardDataset, nothing: ShardDataset
) -> Callable[[], object]:
    """Return a function that trains one local epoch from the same initial weights."""
    local = LocalRound(0, 1, "client", replace(training, batch_size=options.batch), rule)

    def run() -> object:
        model = build_model(options.model, seed=0)
        controls = None
        if rule == "scaffold":
            zeros = {name: np.zeros_like(to_weights(model)[name]) for name, _ in model.named_parameters()}
            controls = Controls(zeros, zeros)
        device = torch.device("cpu")
        return train_epochs(model, cases, nothing, replace(local, controls=controls), device, "fp32")

    return run


if __name__ == "__main__":
    main()
