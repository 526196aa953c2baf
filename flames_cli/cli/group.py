"""Errors of all commands: one line and an exit code; with --debug after a traceback."""

import errno
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn

import click
import typer
from typer.core import TyperGroup

from flames_cli.cli.text import STDOUT, harmless
from flames_cli.errors import INTERNAL, FlamesError

INTERRUPTED = 130
USAGE = 2

TWICE = r"( Did you mean [^?]+\?)\1"
"""Suggestion that both Typer and newer releases of click make."""

REPLACED = {"--compare": "evaluate each run by itself, then run `flames compare RUN RUN`"}
"""Advice by option of earlier releases."""

HELP_SHOWN = getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit)
"""Exception by which click 8.2 and later end a group without a command; earlier releases exit."""

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
"""Errors of the system that the user's files cause: permissions, space, a file in place of a folder."""


class FlamesGroup(TyperGroup):
    """Group that turns errors into one line on stderr, and with --json also into a JSON object on stdout."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the options before the command, and --debug, which may come after it too."""
        words = args[: args.index("--")] if "--" in args else args
        if "--debug" in words:
            args = ["--debug", *(word for word in words if word != "--debug"), *args[len(words) :]]
        with _one_line_errors("--json" in args, "--debug" in args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the command's options and run it."""
        as_json = "--json" in ctx.args
        with _one_line_errors(as_json, bool(ctx.params.get("debug"))), _only_json(ctx, as_json):
            return super().invoke(ctx)


@contextmanager
def _only_json(ctx: click.Context, as_json: bool) -> Iterator[None]:
    """Send to stderr what a library or a plug-in prints, with --json: stdout gets the result alone."""
    if not as_json:
        yield
        return
    ctx.meta[STDOUT] = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


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
            "interrupted; run the same command again (a federation without --fresh continues after its last "
            "complete round)",
            INTERRUPTED,
            as_json,
        )
    except Exception as error:
        if debug:
            traceback.print_exc()
        _end(*_explain(error), as_json)


def _usage(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name in REPLACED:
        return f"{error.option_name} is no option any more; {REPLACED[error.option_name]}"
    message = re.sub(TWICE, r"\1", error.format_message()).rstrip(".")
    command = f"; see `{error.ctx.command_path} --help`" if error.ctx else ""
    return message[:1].lower() + message[1:] + command


def _explain(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code of an error."""
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
