"""Docstrings and help texts are plain English: a clause or a noun phrase, of common words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from flames_cli.cli.app import app

PACKAGE = Path(__file__).parents[1] / "flames_cli"

FRAGMENT = re.compile(
    r"(?:Of|By|As|In|That|For|What|Whether|Who|Whom|Whose|Where|From|To|With|Within|How|Why|Which|At|On|Those"
    r"|Nobody|Nothing|Beside|Beneath)\b"
)
"""A first word that leaves the reader to guess what the text is about."""

DIALECT = re.compile(
    r"\b(?:anew|lacks?|lacked|tells?|told|bears?|mends?|mended|mending|whoever|in vain|beneath|lies in"
    r"|lie in|refus\w+ report)\b",
    re.IGNORECASE,
)
"""Words for which a common one exists: again, is missing, reports, tolerates, fix, is stored in."""


def docstrings() -> Iterator[tuple[str, str]]:
    """Each docstring of the package, also those of constants and fields, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            body = getattr(node, "body", None)
            for item in body if isinstance(body, list) else []:
                value = item.value if isinstance(item, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield f"{path.relative_to(PACKAGE)}:{item.lineno}", value.value.strip()


def help_texts() -> Iterator[tuple[str, str]]:
    """The help of each command and option, with its name."""

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
        yield name, (command.help or "").strip()
        for option in command.get_params(click.Context(command)):
            yield f"{name} {option.name}", (getattr(option, "help", None) or "").strip()
        for sub in getattr(command, "commands", {}).values():
            yield from walk(sub, f"{name} {sub.name}")

    return walk(get_command(app), "flames")


TEXTS = {"docstrings": docstrings, "help texts": help_texts}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_open_with_a_clause_or_a_noun(kind):
    assert not [f"{place}: {text[:60]}" for place, text in TEXTS[kind]() if FRAGMENT.match(text)]


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_use_common_words(kind):
    found = [(place, DIALECT.search(text)) for place, text in TEXTS[kind]()]
    assert not [f"{place}: {word[0]}" for place, word in found if word]


@pytest.mark.parametrize("kind", TEXTS)
def test_the_texts_are_found(kind):
    assert sum(bool(text) for _, text in TEXTS[kind]()) > 100


@pytest.mark.parametrize("text", ["Of fedprox.", "By client.", "As its file.", "What travels: profiles."])
def test_a_fragment_is_noticed(text):
    assert FRAGMENT.match(text)


@pytest.mark.parametrize("text", ["Return the mean.", "Offset of the mask.", "Information on a run."])
def test_a_clause_or_a_noun_passes(text):
    assert not FRAGMENT.match(text)
    assert not DIALECT.search(text)
