"""Errors a user can cause: one line each (what was found, what was expected, what to do)."""

INTERNAL = 1
"""The exit code of a fault in the program."""


class FlamesError(Exception):
    """Bad input or a bad option; the command ends with `exit_code` and this one line."""

    exit_code = 2


class MissingArtifact(FlamesError):
    """A file that an earlier stage makes is not there; the message names that command."""

    exit_code = 3


class NotWritten(FlamesError):
    """The disk is full, or a folder read-only: nothing of the run that needs it can go on."""
