"""Names of plug-ins: the groups, the package that a plug-in comes from, and what can be wrong with it."""

import re
from dataclasses import dataclass
from pathlib import Path

WORDS = {
    "models": "model",
    "strategies": "strategy",
    "readers": "data set",
    "losses": "loss",
    "metrics": "metric",
    "augmentations": "augmentation",
    "trackers": "tracker",
}
"""Groups of plug-ins, each with the word that messages use for one of its members."""

GROUPS = tuple(WORDS)
"""Names of the groups; the entry points of a group are called `flames.` and its name."""

PREFIX = "flames."
"""Beginning of the names of entry points of all groups."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""Pattern of a plug-in's name."""

RAISED = (Exception, SystemExit)
"""Errors that a plug-in may raise: one that calls sys.exit must not end a command without a word."""

MAX_SHOWN = 200
"""Largest number of characters of a text from a plug-in that a message quotes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a plug-in comes from."""

    group: str
    name: str
    package: str
    """Name of the installed package, or of the plug-in's file."""
    version: str
    """Version of the package, or `sha256:` and 12 hex digits of the file's content."""
    reference: str
    """Module and attribute, as `module:attribute`; the dictionary for a file."""
    file: Path | None = None
    """The plug-in's file; None for a package."""

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def key(self) -> str:
        """Group and name, such as `models/tiny`."""
        return f"{self.group}/{self.name}"

    @property
    def fact(self) -> str:
        """Text by which a run stores the plug-in: `models/tiny flames-example 0.1`."""
        return f"{self.key} {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a plug-in, as one line."""

    group: str
    """Group of the plug-in; empty if the fault concerns all of its package or file."""
    name: str
    package: str
    version: str
    text: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {self.text}"


def one_line(text: object) -> str:
    """Return the first line of `text` without characters that a terminal would obey, and not too long."""
    lines = str(text).strip().splitlines()
    plain = "".join(char if char.isprintable() else "?" for char in lines[0]) if lines else ""
    return plain if len(plain) <= MAX_SHOWN else f"{plain[:MAX_SHOWN]}…"


def describe_error(error: BaseException) -> str:
    """Return the type of an error and the first line of its text."""
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def same_package(one: str, other: str) -> bool:
    """Return whether two names are the same package: letters' case and the kind of dash do not count."""
    return normal_name(one) == normal_name(other)


def normal_name(package: str) -> str:
    """Return the name of a package in the form in which package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()
