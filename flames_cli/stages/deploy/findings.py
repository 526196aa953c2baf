"""Findings of a check of a deployment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from flames_cli.errors import FlamesError

State = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: its state, a description, and how to fix a problem."""

    state: State
    what: str
    fix: str = ""


def ok(what: str) -> Finding:
    """Return the finding that a check has passed."""
    return Finding("ok", what)


def warning(what: str, fix: str) -> Finding:
    """Return the finding that something works now, but not well or not for long."""
    return Finding("warning", what, fix)


def problem(what: str, fix: str) -> Finding:
    """Return the finding that something does not work."""
    return Finding("problem", what, fix)


def skipped(what: str, because: str) -> Finding:
    """Return the finding that a check was not possible."""
    return Finding("skipped", f"{what} not checked: {because}")


def problem_of(error: FlamesError) -> Finding:
    """Return an error as a finding; the text after its first semicolon is the fix."""
    what, _, fix = str(error).partition("; ")
    return problem(what, fix)


def require_sound(findings: Iterable[Finding], notify: Callable[[str], None]) -> None:
    """Call `notify` with each warning among `findings`, before a command starts to run for long.

    Raises:
        FlamesError: the first problem among them, with its fix.
    """
    for finding in findings:
        if finding.state == "problem":
            raise FlamesError(f"{finding.what}; {finding.fix}")
        if finding.state == "warning":
            notify(f"{finding.what}; {finding.fix}")


def passed(findings: Sequence[Finding]) -> bool:
    """Return whether there is no problem among `findings`."""
    return all(finding.state != "problem" for finding in findings)
