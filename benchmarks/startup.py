"""Time of `flames --help`: the median wall time of several runs, compared with an empty Python.

    python benchmarks/startup.py --runs 10

The two take turns, so that other load on the machine affects both. Aim: under 0.4 s.
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "flames --help": [sys.executable, "-m", "flames_cli", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    """Print the median of each command and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    medians = measure(parser.parse_args().runs)
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:.3f} s")
    print(f"{'ratio':16} {medians['flames --help'] / medians['python -c pass']:.1f}")


def measure(runs: int) -> dict[str, float]:
    """Return the median wall seconds of each of COMMANDS, after one run of each that fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            took = time_command(command)
            if turn:
                seconds[name].append(took)
    return {name: statistics.median(times) for name, times in seconds.items()}


def time_command(command: list[str]) -> float:
    """Return the wall seconds of one run; its output is discarded."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
