"""Numbers as texts: durations, counts with a noun, sizes, and a privacy cost."""

from collections.abc import Mapping
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """Return `seconds` in readable units: 40 s, 12 min, 3 h 20 min, 2 days 5 h."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < DAY:
        return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE)} min"
    days = int(seconds // DAY)
    return f"{days} {'day' if days == 1 else 'days'} {int(seconds % DAY // HOUR)} h"


def count(n: int, thing: str) -> str:
    """Return `n` with its noun: 1 patient, 2 patients."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def size(n_bytes: int) -> str:
    """Return `n_bytes` in readable units: 800 B, 12 KiB, 3.4 MiB, 120 MiB, 2.1 GiB."""
    value, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" and value < 10 else f"{value:.0f} {unit}"


def epsilon_spent(spent: Mapping[str, Any]) -> str:
    """Return `epsilon` at `delta` of a round's record or a summary: epsilon 4.73 (delta 1e-05)."""
    epsilon = spent["epsilon"]
    return f"epsilon {'unknown' if epsilon is None else f'{epsilon:.3g}'} (delta {spent['delta']:g})"
