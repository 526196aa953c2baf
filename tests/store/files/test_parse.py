import pytest

from flames_cli.store.files.parse import MOST_DOTS, parse_json, parse_toml


def test_text_that_people_write_is_parsed():
    assert parse_toml('a.b = 1.5\nc = "x.y.z"\n') == {"a": {"b": 1.5}, "c": "x.y.z"}
    assert parse_toml("") == {}
    assert parse_toml("a" + ".a" * MOST_DOTS + " = 1")


@pytest.mark.parametrize(
    "text", ["a" + ".a" * (MOST_DOTS + 1) + " = 1", "[a" + " . a" * 9999 + "]\n", "a = " + "[" * 9999]
)
def test_toml_that_would_take_the_memory_is_rejected(text):
    with pytest.raises(ValueError, match=r"dots|nested"):
        parse_toml(text)


def test_json_that_is_nested_too_deeply_is_rejected():
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 99_999)
