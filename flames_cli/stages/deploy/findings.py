"""What a check of a deployment found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flames_cli.errors import FlamesError

State = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not well."""

    state: State
    what: str
    fix: str = ""


def ok(what: str) -> Finding:
    """As it should be."""
    return Finding("ok", what)


def warning(what: str, fix: str) -> Finding:
    """It works, but not for ever or not well."""
    return Finding("warning", what, fix)


def problem(what: str, fix: str) -> Finding:
    """It does not work."""
    return Finding("problem", what, fix)


def skipped(what: str, because: str) -> Finding:
    """It could not be looked at."""
    return Finding("skipped", f"{what} not checked: {because}")


def problem_of(error: FlamesError) -> Finding:
    """What an error says; what to do stands behind its first semicolon."""
    what, _, fix = str(error).partition("; ")
    return problem(what, fix)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether there is no problem."""
    return all(finding.state != "problem" for finding in findings)
