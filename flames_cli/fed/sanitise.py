"""What another machine sent, fit to be shown and kept: one printable line."""

import re

from flwr.app import Message

_WRAPPED = re.compile(r"^<class 'flames_cli\.[\w.]+'>:<'(.*)'>$", re.DOTALL)

LONGEST_REASON = 500


def error_reason(reply: Message) -> str:
    """Why a node gave no answer, in its own words: Flower's engines wrap them in the error's class.

    One line of at most LONGEST_REASON letters, whatever the node sends.
    """
    reason = str(reply.error.reason)
    wrapped = _WRAPPED.match(reason)
    return sanitise(wrapped[1] if wrapped else reason)


def sanitise(text: str) -> str:
    """`text` that quotes what another machine sent: one line of at most LONGEST_REASON printable letters."""
    line = " ".join(text[: 4 * LONGEST_REASON].split())
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST_REASON]
