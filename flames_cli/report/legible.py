"""Texts from a user's files and shares as a page and a terminal show them."""


def legible(text: str) -> str:
    """Return `text` with unprintable parts, such as control characters and broken Unicode, written as
    \\x1b."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def percent(share: float) -> str:
    """Return a share of 0..1 in %, with three digits."""
    return "< 0.001" if 0 < share < 1e-5 else f"{100 * share:.3g}"
