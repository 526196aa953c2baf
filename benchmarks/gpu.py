"""Measure FLAMES on a GPU: correctness against the CPU, speed, where the time goes, and 50 rounds.

    python benchmarks/gpu.py --shards flames-workspace/partitions/default/shards --json gpu.json
    python benchmarks/gpu.py --minutes 3 --rounds 3
    python benchmarks/gpu.py --toy --device cpu --minutes 1

Needs torch, torchvision, numpy, h5py, safetensors, OpenCV and SciPy, no network, and nothing of Flower. Each
section has a share of the time and fails by itself: the others go on, and the exit status is 1. With little
time, setups and rounds are left out. The table that ends the output says it all in short, the JSON all of it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from gpu_parts import around, card, correctness, operations, rounds, speed
from gpu_parts.running import Run, Section, run_sections, summarise, write_figures

from flames_cli.learn.devices import pick_device

SECTIONS = (
    Section("card", 15, card.show_card),
    Section("correctness", 55, correctness.check),
    Section("speed", 190, speed.measure),
    Section("operations", 25, operations.list_operations),
    Section("around", 35, around.take_apart),
    Section("rounds", 160, rounds.federate),
)
NAMES = tuple(section.name for section in SECTIONS)

FEW_ROUNDS, SHORT_S = 10, 30.0
"""Below so many rounds, their section gets this share."""

RESERVE_S = 20.0
"""Kept of the time for loading, and for a section that has to be interrupted."""


def main() -> int:
    """Run the sections that are asked for; print and write what they found; return the exit status."""
    options = parse_options()
    if options.toy:
        torch.set_num_threads(1)  # the work is so small that threads only wait for each other
    run = Run(
        pick_device(options.device),
        options.toy,
        options.shards,
        options.rounds or (2 if options.toy else 50),
        options.model,
        options.batch_size,
        options.lr,
    )
    chosen = [section for section in SECTIONS if section.name in options.only]
    if run.rounds < FEW_ROUNDS:
        chosen = [replace(one, share=SHORT_S) if one.name == "rounds" else one for one in chosen]
    seconds = max(options.minutes * 60 - RESERVE_S, options.minutes * 30)
    outcomes = run_sections(chosen, run, seconds, lambda: write_figures(options.json, run.figures))
    run.say("\n".join(summarise(outcomes)))
    return int(any(outcome.failed for outcome in outcomes))


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="tiny models and images, for a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all sections together (default 8)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--shards", type=Path, help="folder of *.h5 from `flames partition`; else phantoms")
    parser.add_argument("--json", type=Path, help="where all figures go")
    parser.add_argument("--only", type=parse_names, default=NAMES, help=f"of {','.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="of the section rounds (default 50)")
    parser.add_argument("--model", default="auto", help="of the section rounds; auto: by the time there is")
    parser.add_argument("--batch-size", type=int, help="of the section rounds")
    parser.add_argument("--lr", type=float, help="of the section rounds")
    return parser.parse_args()


def parse_names(text: str) -> tuple[str, ...]:
    """Return the sections named in `text`, which commas divide."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"unknown section {unknown[0]!r}: choose of {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
