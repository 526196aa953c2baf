"""Ids of findings, and the file that accepts them."""

import re
from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.acceptance import make_id, read_accepted

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def write(folder, text):
    path = folder / "accepted.toml"
    path.write_text(text, encoding="utf-8")
    return path


def entry(**keys):
    return "\n[[accept]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


def test_an_id_is_the_code_and_the_names_in_any_order():
    assert make_id("few-patients") == "few-patients"
    assert make_id("full-mask", ["a.png"]) == "full-mask:a.png"
    assert make_id("copies", ["b", "a"]) == make_id("copies", ["a", "b"]) == "copies:a=b"


def test_an_id_has_no_characters_that_cannot_be_copied():
    assert make_id("full-mask", ["a\n\u202e.png"]) == r"full-mask:a\n\u202e.png"


def test_the_file_gives_a_reason_for_each_id(tmp_path):
    path = write(tmp_path, entry(id="a:b", reason=" seen ") + entry(id="c", reason="known"))
    assert read_accepted(path) == {"a:b": "seen", "c": "known"}
    assert read_accepted(write(tmp_path, "")) == read_accepted(None) == {}


def test_the_example_of_the_page_is_accepted(tmp_path):
    (example,) = re.findall(r"```toml\n(\[\[accept\]\].*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(read_accepted(write(tmp_path, example))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[accept]]\nid = a", r"cannot be read as TOML: .*line 2"),
        ("[[accept]]\nid = 'a'", r"entry 1 of \[\[accept\]\] has no reason"),
        (entry(id="a", reason="b") + entry(reason="b"), r"entry 2 of \[\[accept\]\] has no id"),
        (entry(id="a", reason=" "), "has no reason, or an empty one"),
        (entry(id="a", reason="b", until="May"), "has the unknown key 'until'"),
        (entry(id="a", reason="b") * 2, "entry 2 .* repeats the id 'a'"),
        ("accept = ['a']", "entry 1 .* is not a table"),
        ("accept = 3", "expected only"),
        ("[accept]\nid = 'a'\nreason = 'b'", "expected only"),
        ("ids = ['a']", "contains ids, expected only"),
        ("[[accept]]\nid = 3\nreason = 'b'", "has no id"),
    ],
)
def test_a_wrong_file_is_rejected_with_its_place(text, message, tmp_path):
    with pytest.raises(FlamesError, match=message):
        read_accepted(write(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FlamesError, match="check --accept"):
        read_accepted(tmp_path / "gone.toml")
