"""Errors that a user can cause. Each message is one line: what was found, what was expected, what to do."""

from collections.abc import Sequence

INTERNAL = 1
"""Exit code after a bug in the program."""

PROBLEMS = 4
"""Exit code of `flames check` and `flames deploy check` if they found problems."""


LISTED = 5
"""Number of faults that a message names; the others are counted."""


def list_faults(faults: Sequence[str]) -> str:
    """Return the first LISTED faults as one text, with the number of the others."""
    more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
    return "; ".join(faults[:LISTED]) + more


def install_extra(extra: str) -> str:
    """Return how to install the packages of an extra of pyproject.toml: in a clone, and from an index."""
    clone, index = f"pip install -e '.[{extra}]'", f"pip install 'flames-cli[{extra}]'"
    return f"{clone} in FLAMES's folder (from an index: {index})"


class FlamesError(Exception):
    """An input or an option is wrong; the command prints the message and ends with `exit_code`."""

    exit_code = 2


class MissingArtifact(FlamesError):
    """A file of an earlier stage is missing; the message names the command that makes it."""

    exit_code = 3


class NotWritten(FlamesError):
    """A file cannot be written: the disk is full, or the folder is read-only; the run cannot continue."""
