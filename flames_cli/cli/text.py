"""Small pieces of text."""

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """`seconds` as a person says it: 40 s, 12 min, 3 h 20 min, 2 days 5 h."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < DAY:
        return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE)} min"
    days = int(seconds // DAY)
    return f"{days} {'day' if days == 1 else 'days'} {int(seconds % DAY // HOUR)} h"


def count(n: int, thing: str) -> str:
    """`n` with its noun: 1 patient, 2 patients."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
