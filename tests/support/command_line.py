"""The command line in processes of its own, or in this one."""

import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLAIN = {"FLAMES_WORKSPACE": None, "FORCE_COLOR": None, "COLUMNS": "80"}
"""Changes of the environment that hide the tester's own terminal."""

SMALL_FEDERATION = ("--model", "unet", "--model-option", "base_channels=4", "--model-option", "depth=2")
SMALL_FEDERATION += ("--batch-size", "8", "--lr", "1e-3", "--device", "cpu")
"""Options of a federation that takes seconds."""


def shell_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that finds the package from any folder."""
    others = {name: value for name, value in os.environ.items() if name not in PLAIN}
    return {**others, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **changes}


def flames(*args: object, code: int = 0) -> Any:
    """Run a command in this process, and return its result; it ends with `code`."""
    from typer.testing import CliRunner

    from flames_cli.cli.app import app

    result = CliRunner().invoke(app, [str(arg) for arg in args], env=PLAIN, prog_name="flames")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def fails(*args: object, code: int = 2) -> str:
    """Return the one line of a command that fails in this process."""
    lines = [line for line in flames(*args, code=code).stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("error: ")
