"""The command line as tests call it: in this process, or as a user's shell does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flames_cli.cli.app import app

ROOT = Path(__file__).parents[2]
PLAIN = {"FLAMES_WORKSPACE": None, "FORCE_COLOR": None, "COLUMNS": "80"}
"""Nothing of the tester's own terminal."""

SMALL = ("--model", "unet", "--model-option", "base_channels=4", "--model-option", "depth=2")
SMALL += ("--batch-size", "8", "--lr", "1e-3", "--device", "cpu")


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Options of a federation that takes seconds."""
    return SMALL


@pytest.fixture
def flames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """flames("info", "--json"): the command in this process, standing in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], env=PLAIN, prog_name="flames")

    return run


@pytest.fixture
def refused(flames: Callable[..., Result]) -> Callable[..., str]:
    """refused("info", "--workspace", file): the one line of an error that is the user's; checks its form."""

    def run(*args: object, code: int = 2) -> str:
        result = flames(*args)
        assert result.exit_code == code, result.output
        assert isinstance(result.exception, SystemExit)
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert result.stderr.endswith(lines[0] + "\n")
        assert "Traceback" not in result.output
        assert "internal error" not in lines[0]
        if "--json" in args:
            assert json.loads(result.stdout) == {"error": lines[0].removeprefix("error: "), "exit_code": code}
        else:
            assert result.stdout == ""
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """shell("info", cwd=…, env={…}): the command in a process of its own."""

    def run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flames_cli", *map(str, args)],
            cwd=tmp_path,
            env=shell_environment(**env),
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def environment() -> Callable[..., dict[str, str]]:
    """environment(NAME="value"): of a process that finds the package from any folder."""
    return shell_environment


def shell_environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in PLAIN}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **changes}


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, Any]]:
    """snapshot(folder): every file below it, with its size and time of writing."""

    def take(folder: Path) -> dict[str, Any]:
        return {
            str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return take
