"""How every command ends: one line for a user's error, its exit code, a traceback only with --debug."""

import json
import sys
from typing import Any

import click
import typer
from typer.core import TyperGroup

from flames_cli.errors import FlamesError

INTERRUPTED = 130
INTERNAL = 1


class FlamesGroup(TyperGroup):
    """Turns errors into one line on stderr (and a JSON object on stdout where --json was given)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except FlamesError as error:
            if ctx.params.get("debug"):
                raise
            raise typer.Exit(_complain(str(error), error.exit_code, as_json)) from None
        except KeyboardInterrupt:
            raise typer.Exit(
                _complain("interrupted; run the same command again to go on", INTERRUPTED, as_json)
            ) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            kind = type(error).__name__
            fault = f"internal error ({kind}: {error}); run again with `flames --debug …` and report it"
            raise typer.Exit(_complain(fault, INTERNAL, as_json)) from None


def _complain(message: str, exit_code: int, as_json: bool) -> int:
    line = " ".join(message.split())
    if as_json:
        sys.stdout.write(json.dumps({"error": line, "exit_code": exit_code}, ensure_ascii=False) + "\n")
    sys.stderr.write(f"error: {line}\n")
    return exit_code
