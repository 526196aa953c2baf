"""Sections are run one after the other within a budget of time, each for itself, and summed up at the end."""

import json
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GRACE_S = 10.0
"""A section that does not look at its clock is interrupted so long after its time."""


class OutOfTimeError(Exception):
    """Work was interrupted because its time was over."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock tells how much time is left until its end."""

    end: float
    """Monotonic seconds."""

    def left(self) -> float:
        """Return the seconds that are left; below 0 when the time is over."""
        return self.end - time.monotonic()

    def part(self, share: float) -> "Clock":
        """Return a clock for `share` of the time that is left."""
        return Clock(time.monotonic() + max(self.left(), 0.0) * share)


@dataclass(slots=True)
class Run:
    """State that all sections share: the device, the options, and the figures found so far."""

    device: "torch.device"
    toy: bool = False
    shards: Path | None = None
    rounds: int = 50
    model: str = "auto"
    batch_size: int | None = None
    lr: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """Figures by section, written as JSON."""
    best: Any = None
    """The fastest setup without CUDA graphs that was measured, for the profiler."""

    def say(self, text: str) -> None:
        """Print a line at once."""
        print(text, flush=True)


Work = Callable[[Run, Clock], list[str]]
"""Does a section's work within its clock; returns the lines for the table at the end."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section has a name to choose it by, and a share of the whole time."""

    name: str
    share: float
    work: Work


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a section."""

    name: str
    failed: bool
    seconds: float
    lines: list[str]


def run_sections(
    sections: Sequence[Section], run: Run, seconds: float, save: Callable[[], None]
) -> list[Outcome]:
    """Run the sections in order; time that one leaves over falls to those after it.

    `save` is called after each, so that a run that is killed keeps what it found.
    """
    end, outcomes = Clock(time.monotonic() + seconds), []
    for number, section in enumerate(sections):
        clock = end.part(section.share / sum(one.share for one in sections[number:]))
        run.say(f"\n== {section.name} (up to {max(clock.left(), 0):.0f} s)")
        outcomes.append(_run_section(section, run, clock))
        save()
    return outcomes


def _run_section(section: Section, run: Run, clock: Clock) -> Outcome:
    started = time.monotonic()
    try:
        with time_limit(max(clock.left(), 0.0) + GRACE_S):
            lines, failed = section.work(run, clock), False
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        reason = (str(error).splitlines() or [""])[0]
        lines, failed = [f"FAILED: {type(error).__name__}: {reason[:200]}"], True
        run.figures.setdefault(section.name, {})["failed"] = lines[0]
    seconds = time.monotonic() - started
    run.figures.setdefault(section.name, {})["seconds"] = round(seconds, 1)
    run.say(f"-- {section.name}: {'FAILED' if failed else 'ok'} in {seconds:.0f} s")
    return Outcome(section.name, failed, seconds, lines)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the main thread once `seconds` are over; limits may lie within one another."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTimeError(f"interrupted after {seconds:.0f} s")

    handler, started = signal.signal(signal.SIGALRM, ring), time.monotonic()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - started), 0.01))


def summarise(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table that ends the output."""
    lines = ["", "== summary"]
    for outcome in outcomes:
        state = "FAILED" if outcome.failed else "ok"
        lines.append(f"{outcome.name}: {state}, {outcome.seconds:.0f} s")
        lines += [f"  {line}" for line in outcome.lines]
    return lines


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return `rows` as lines in columns: the first one left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        rest = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return lines


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures as JSON, numbers that JSON does not know as null; nowhere where there is no path."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_plain(figures), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
