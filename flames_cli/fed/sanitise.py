"""Sanitising of text from other machines: one printable line, fit to be shown and stored."""

import re

from flwr.app import Message

_WRAPPED = re.compile(r"^<class 'flames_cli\.[\w.]+'>:<'(.*)'>$", re.DOTALL)

LONGEST_REASON = 500
"""Largest number of characters of a sanitised text."""


def error_reason(reply: Message) -> str:
    """Return the reason in a node's error, sanitised.

    Flower's engines put the name of the error's class around the reason; it is removed.
    """
    reason = str(reply.error.reason)
    wrapped = _WRAPPED.match(reason)
    return sanitise(wrapped[1] if wrapped else reason)


def sanitise(text: str) -> str:
    """Return `text` as one line of at most LONGEST_REASON printable characters."""
    line = " ".join(text[: 4 * LONGEST_REASON].split())
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST_REASON]
