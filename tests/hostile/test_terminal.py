"""Names of files and of nodes are shown, and steer no terminal."""

import io

import pytest
import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flames_cli.cli import consoles
from flames_cli.cli.group import FlamesGroup
from flames_cli.cli.text import harmless
from flames_cli.errors import FlamesError

STEERING = "\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\r", "\b", "\u202e", "\x7f", "\ud800"
NAME = "".join(STEERING)


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_a_terminal_is_shown_as_a_question_mark(text):
    assert "?" in harmless(f"a{text}b")
    assert text not in harmless(f"a{text}b")


@pytest.mark.parametrize("text", ["", "Größe 3 µm, ±1 °", "患者 10\xa0%", "a\nb", "[red] :smile:"])
def test_all_else_stays_as_it_is(text):
    assert harmless(text) == text


@pytest.mark.parametrize("make", [consoles.results, consoles.watching])
def test_no_console_passes_it_on(make, monkeypatch):
    console = make()
    console.file = io.StringIO()
    table = Table(title=NAME)
    table.add_column(NAME)
    table.add_row(NAME)
    with Live(table, console=console, auto_refresh=False):
        console.print(NAME, style="yellow")
        console.print(Text(NAME), table, soft_wrap=True)
    shown = console.file.getvalue()
    assert "owned" in shown
    assert not set(shown) & (set(NAME) - set("[]0;2J31mowned"))


def test_an_error_does_not_pass_it_on(capsys):
    app = typer.Typer(cls=FlamesGroup)

    @app.command()
    def fail():
        raise FlamesError(f"found {NAME}")

    @app.command()
    def other():
        """So that there is a group."""

    with pytest.raises(SystemExit):
        app(["fail"])
    told = capsys.readouterr().err
    assert told.startswith("error: found ?[2J")
    assert told.rstrip("\n").isprintable()
