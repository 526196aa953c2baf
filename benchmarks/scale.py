"""Memory and time of a round by number of clients: FLAMES' server compared with Flower's stock FedAvg.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --clients 2 10 50 100 200 --out build/scale

Every federation runs in its own process (`scale_arm.py`), with the same weights, the same in-process Grid and
the same clients, which return the received weights plus a constant. Memory is the peak minus the memory of
the process after the imports and with the initial weights (`base`), without pages of files, which the system
frees by itself; scale.csv also has the peak with them. Time is the mean round after a first one, clients
included. It is processor time, which other load on the machine changes less than wall time (both are in
scale.csv). `flames` stores one personalised model per client from round to round: in the memory if a run has
no folder, else in files. `with files` is a run as `flames federate` does it, with its line and its checkpoint
after each round. A federation that would need more memory or disk than is free, or more memory than
--limit-gb, is left out. --toy takes a second or two, for tests.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import scale_arm
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from flames_cli.report.canvas import DPI, MARKERS, PALETTE, STYLE

FREE_GB = 2.0
"""Memory that is left to other programs on the machine."""

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Arm:
    """One server, with the models that it has in memory at its peak: `fixed`, and `each` per client."""

    label: str
    fixed: int
    each: int
    colour: str
    marker: str
    on_disk: int = 0
    """Models on the disk per client."""


ARMS = {
    "flower": Arm("Flower's FedAvg", 4, 2, PALETTE[5], MARKERS[2]),
    "fedavg": Arm("FLAMES, fedavg", 7, 0, PALETTE[0], MARKERS[0]),
    "fedavg-files": Arm("fedavg with files", 7, 0, PALETTE[4], MARKERS[3]),
    "flames": Arm("FLAMES, flames", 8, 2, PALETTE[1], MARKERS[1]),
    "flames-files": Arm("flames with files", 26, 0, PALETTE[2], MARKERS[4], on_disk=5),
}
STOCK = "flower"


def main() -> None:
    """Measure every arm at every number of clients; print the table, write the CSV and the picture."""
    options = parse_options()
    measured: dict[tuple[str, int], Figures] = {}
    print_head(options)
    for n in options.clients:
        for name, arm in ARMS.items():
            if reason := too_much(arm, n, options.megabytes, options.limit_gb):
                print(f"{n:7}  {arm.label:17} left out: {reason}", flush=True)
                continue
            measured[name, n] = run(name, n, options)
            print_line(n, arm, measured[name, n], measured.get((STOCK, n)))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_csv(options.out / "scale.csv", measured)
        draw(options.out / "scale.png", measured, options)


def parse_options() -> argparse.Namespace:
    """Return the options: numbers of clients, model size, measured rounds, memory limit, output folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", nargs="+", type=int, default=[2, 10, 50, 100, 200])
    parser.add_argument("--megabytes", type=float, default=54)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit-gb", type=float, default=12)
    parser.add_argument("--out", type=Path, help="folder of scale.csv and scale.png")
    parser.add_argument("--toy", action="store_true", help="two clients, 0.2 MB, one round, in this process")
    options = parser.parse_args()
    if options.toy:
        options.clients, options.megabytes, options.rounds = [2], 0.2, 1
    return options


def estimate_gb(arm: Arm, n: int, megabytes: float) -> float:
    """Return an estimate of the memory of an arm with `n` clients, in GB."""
    return (arm.fixed + arm.each * n) * megabytes / 1000


def too_much(arm: Arm, n: int, megabytes: float, limit_gb: float) -> str | None:
    """Return the reason why an arm cannot be run, or None."""
    needed, free = estimate_gb(arm, n, megabytes), psutil.virtual_memory().available / 1e9
    on_disk, space = arm.on_disk * n * megabytes / 1000, shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if on_disk > space - FREE_GB:
        return f"it would need about {on_disk:.0f} GB of disk, {space:.0f} are free"
    if needed > limit_gb:
        return f"it would need about {needed:.0f} GB, the limit is {limit_gb:g}"
    if needed > free - FREE_GB:
        return f"it would need about {needed:.1f} GB, {free:.1f} are free"
    return None


def run(name: str, n: int, options: argparse.Namespace) -> Figures:
    """Run one federation and return its figures."""
    script = Path(__file__).with_name("scale_arm.py")
    command = [sys.executable, str(script), name, str(n)]
    command += ["--megabytes", str(options.megabytes), "--rounds", str(options.rounds)]
    if options.toy:  # it takes seconds to import Flower again
        return scale_arm.measure(name, n, options.megabytes, options.rounds)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict[str, float](json.loads(done.stdout.splitlines()[-1]))


def print_head(options: argparse.Namespace) -> None:
    """Print the measured quantities and the names of the columns."""
    print(f"model of {options.megabytes:g} MB, {options.rounds} rounds after a first one; ratios to {STOCK}")
    print(
        f"{'clients':>7}  {'server':17}{'peak memory':>17}{'base':>9}"
        f"{'a round':>17}{'its server':>17}{'on the clock':>14}"
    )


def print_line(n: int, arm: Arm, figures: Figures, stock: Figures | None) -> None:
    """Print one row of the table; the server's time is the time of the round minus that of the clients."""

    def cell(name: str, unit: str, digits: int) -> str:
        ratio = f"{figures[name] / stock[name]:.2f}x" if stock else ""
        return f"{figures[name]:8.{digits}f} {unit:2}{ratio:>6}"

    columns = (
        cell("private_mb", "MB", 0),
        f"{figures['base_mb']:6.0f} MB",
        cell("processor_seconds", "s", 2),
        cell("server_processor_seconds", "s", 2),
        f"{figures['seconds']:12.2f} s",
    )
    print(f"{n:7}  {arm.label:17}{''.join(columns)}", flush=True)


def write_csv(path: Path, measured: Mapping[tuple[str, int], Figures]) -> None:
    """Write all figures, one row for each federation."""
    names = next(iter(measured.values())).keys()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("server", "clients", *names))
        writer.writerows((arm, n, *figures.values()) for (arm, n), figures in measured.items())


def draw(path: Path, measured: Mapping[tuple[str, int], Figures], options: argparse.Namespace) -> None:
    """Draw peak memory and seconds of a round by number of clients."""
    with style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(7.4, 3.3), dpi=DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        memory, seconds = figure.subplots(1, 2)
        for name, arm in ARMS.items():
            of_arm = {n: figures for (one, n), figures in measured.items() if one == name}
            draw_line(memory, arm, {n: figures["private_mb"] / 1000 for n, figures in of_arm.items()})
            draw_line(seconds, arm, {n: figures["processor_seconds"] for n, figures in of_arm.items()})
            draw_left_out(memory, arm, of_arm, options)
        finish(memory, "Peak memory", "GB", options.clients)
        finish(seconds, "Processor time of a round", "s", options.clients)
        if len(measured) < len(ARMS) * len(options.clients):
            memory.plot([], [], "o:", color="#888888", mfc="white", ms=4.5, label="estimated, not run")
        memory.legend(loc="upper left", handlelength=2.4, borderaxespad=0.2)
        figure.savefig(path, metadata={"Software": None})


def draw_line(axes: Axes, arm: Arm, values: Mapping[int, float]) -> None:
    """Draw the measured values of an arm."""
    axes.plot(
        list(values),
        list(values.values()),
        color=arm.colour,
        marker=arm.marker,
        markersize=4.5,
        linewidth=1.5,
        label=arm.label,
    )


def draw_left_out(axes: Axes, arm: Arm, of_arm: Mapping[int, Figures], options: argparse.Namespace) -> None:
    """Draw the estimates of the federations that were not run."""
    left_out = [n for n in options.clients if n not in of_arm and of_arm and n > max(of_arm)]
    if not left_out:
        return
    last = max(of_arm)
    estimates = [estimate_gb(arm, n, options.megabytes) for n in left_out]
    axes.plot(
        [last, *left_out],
        [of_arm[last]["private_mb"] / 1000, *estimates],
        color=arm.colour,
        linestyle=(0, (1, 2)),
    )
    axes.plot(
        left_out, estimates, arm.marker, markersize=4.5, markerfacecolor="white", color=arm.colour, zorder=3
    )


def finish(axes: Axes, title: str, unit: str, clients: Sequence[int]) -> None:
    """Set both axes to logarithmic, with ticks at the requested numbers of clients."""
    axes.set(xscale="log", yscale="log", xlabel="clients")
    axes.set_title(f"{title} ({unit})", loc="left", fontsize=9, fontweight="bold")
    axes.xaxis.set_major_locator(FixedLocator(list(clients)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
