"""How every command ends: one line for a user's error, its exit code, a traceback only with --debug."""

import errno
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import typer
from typer.core import TyperGroup

from flames_cli.cli.text import harmless
from flames_cli.errors import INTERNAL, FlamesError

INTERRUPTED = 130
USAGE = 2

TWICE = r"( Did you mean [^?]+\?)\1"
"""Typer and newer releases of click make the same suggestion."""

HELP_SHOWN = getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit)
"""How click 8.2 and later end a group without a command; earlier ones exit."""

ENVIRONMENT = {
    errno.ENOENT,
    errno.EACCES,
    errno.EIO,
    errno.EFBIG,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What the system refuses for reasons that lie with the user's files: rights, space, a file for a folder."""


class FlamesGroup(TyperGroup):
    """Turns errors into one line on stderr (and a JSON object on stdout where --json was given)."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse what stands before the command."""
        with _one_line_errors("--json" in args, "--debug" in args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the command's options and run it."""
        with _one_line_errors("--json" in ctx.args, bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextmanager
def _one_line_errors(as_json: bool, debug: bool) -> Iterator[None]:
    try:
        yield
    except (click.exceptions.Exit, click.Abort, HELP_SHOWN, BrokenPipeError):
        raise
    except click.UsageError as error:
        _end(_usage(error), USAGE, as_json)
    except KeyboardInterrupt:
        _end(
            "interrupted; run the same command again (a federation goes on after its last whole round)",
            INTERRUPTED,
            as_json,
        )
    except Exception as error:
        if debug:
            raise
        _end(*_explain(error), as_json)


def _usage(error: click.UsageError) -> str:
    message = re.sub(TWICE, r"\1", error.format_message()).rstrip(".")
    command = f"; see `{error.ctx.command_path} --help`" if error.ctx else ""
    return message[:1].lower() + message[1:] + command


def _explain(error: Exception) -> tuple[str, int]:
    """The line and the exit code of an error."""
    if isinstance(error, FlamesError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in ENVIRONMENT:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror}; check the path, its rights and the space left",
            FlamesError.exit_code,
        )
    kind = type(error).__name__
    return f"internal error ({kind}: {error}); run again with `flames --debug …` and report it", INTERNAL


def _end(message: str, exit_code: int, as_json: bool) -> NoReturn:
    line = harmless(" ".join(message.split()))
    if as_json:
        sys.stdout.write(json.dumps({"error": line, "exit_code": exit_code}) + "\n")
    sys.stderr.write(f"error: {line}\n")
    raise typer.Exit(exit_code) from None
