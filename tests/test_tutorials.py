"""The commands of the documentation are those of the command line, and the tutorials run as written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from flames_cli.cli.app import app
from tests.support.command_line import shell_environment
from tests.test_docs import PAGES, ROOT

FENCE = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.M | re.S)
"""One block of code: indentation, language, name of a file, text."""

SHORTENED = re.compile(r"…|\[|\bPACKAGE\b")
"""What a line has that shows only a part of a command."""

TOY = {
    "base_channels = 8": "base_channels = 4",
    '"base_channels": 8': '"base_channels": 4',
    "rounds = 4": "rounds = 1",
    "rounds = 6": "rounds = 1",
    "rounds=4": "rounds=1",
    "size = 64": "size = 32",
    "size=64": "size=32",
    "make_phantoms('phantoms')": "make_phantoms('phantoms', patients=24)",
}
"""What makes a tutorial short: text of the page, and its replacement."""


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (language, name of a file, text) of each block of code."""
    for indent, language, title, text in FENCE.findall(page.read_text("utf-8")):
        yield language, title, re.sub(rf"^{indent}", "", text, flags=re.M)


def commands(page: Path) -> Iterator[str]:
    """Yield the complete `flames` commands of a page's blocks."""
    for language, _, text in blocks(page):
        if language not in ("", "sh", "bash"):
            continue
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            found = re.fullmatch(r"\s*(?:\$ )?(flames [a-z-].*?)(?:\s+#.*|\s*(?:\||>|&&).*)?", line)
            if found and not SHORTENED.search(found[1]):
                yield found[1]


def parse(line: str) -> None:
    """Parse a command without running it, and without options in a variable of the shell, such as $M.

    Raises click.UsageError.
    """
    words = [word for word in shlex.split(line)[1:] if not re.fullmatch(r"\$[A-Z]+", word)]
    command: click.Command = typer.main.get_command(app)
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            command.make_context("flames", words, resilient_parsing=True)
            return
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_can_be_typed(page):
    wrong = []
    for line in commands(page):
        try:
            parse(line)
        except (click.UsageError, KeyError) as error:
            wrong.append(f"{line}: {error!r}")
    assert wrong == []


def test_the_pages_have_many_commands_and_a_wrong_one_is_noticed():
    assert sum(1 for page in PAGES for _ in commands(page)) > 100
    with pytest.raises(click.UsageError):
        parse("flames federate --no-such-option 3")
    with pytest.raises(KeyError):
        parse("flames no-such-command")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_code_of_a_page_is_python(page):
    for language, _, text in blocks(page):
        if language == "python":
            compile(text.replace("…", "..."), page.name, "exec")


def script(page: Path, folder: Path) -> str:
    """Return the commands of a tutorial as a script for bash; its files are written where they are named."""
    lines, program = ["set -e"], ""
    for language, title, text in blocks(page):
        for long, short in TOY.items():
            text = text.replace(long, short)
        if title:
            (folder / "pages").mkdir(exist_ok=True)
            kept = folder / "pages" / f"{len(lines)}-{title}"
            kept.write_text(text)
            lines.append(f"cp {shlex.quote(str(kept))} {title}")
        elif language == "python":
            program += text
        elif language == "":
            for line in text.splitlines():
                # The exit code 4 says that problems were found, which a tutorial shows on purpose.
                lines.append(f"{line} || test $? -eq 4" if line.startswith("flames check") else line)
    if program:
        (folder / "program.py").write_text(program)
        lines.append(f"python {shlex.quote(str(folder / 'program.py'))}")
    return "\n".join(lines) + "\n"


@pytest.mark.long
@pytest.mark.parametrize("name", ["first-federation", "in-python", "hospital-data"])
def test_a_tutorial_runs_as_it_is_written(name, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool, words in (("flames", "-m flames_cli "), ("python", "")):
        (tools / tool).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (tools / tool).chmod(0o755)
    room = tmp_path / "room"
    room.mkdir()
    text = script(ROOT / "docs" / "tutorials" / f"{name}.md", tmp_path)
    environment = shell_environment(FLWR_TELEMETRY_ENABLED="0")
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text], cwd=room, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    for workspace in room.glob("*study"):
        assert list(workspace.glob("runs/*/config.toml"))
        assert list(workspace.glob("evaluations/*/evaluation.json"))
