"""Texts for a terminal: numbers, durations and sizes, and texts of others without control characters."""

import re

from flames_cli.core.words import count, duration, epsilon_spent, size

__all__ = ["STDOUT", "count", "duration", "epsilon_spent", "harmless", "size"]

STDOUT = "flames.stdout"
"""Key in a command's context: the stream that gets the result alone, with --json."""

_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, change colours or the direction of text, and unpaired surrogates."""


def harmless(text: str) -> str:
    """Return `text` with a ? for every character that would control a terminal; line ends stay."""
    return _STEERING.sub("?", text)
