"""The command line as tests call it: in this process, or as a user's shell does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flames_cli.cli.app import app
from tests.support.command_line import PLAIN, shell_environment


@pytest.fixture
def flames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """flames("info", "--json"): the command in this process, standing in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], env=PLAIN, prog_name="flames")

    return run


@pytest.fixture
def error_line(flames: Callable[..., Result]) -> Callable[..., str]:
    """error_line("info", "--workspace", file): the line of a user error; its form is checked."""

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
