import pytest

from flames_cli.store.files.parse import MOST_DOTS, parse_json, parse_toml, read_text


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


TOML = 'name = "Köln"\nrounds = 2\n'


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_text_is_read_with_or_without_a_byte_order_mark_and_with_any_line_ends(mark, line_end, tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(mark + TOML.replace("\n", line_end).encode())
    assert read_text(path) == TOML
    assert parse_toml(read_text(path)) == {"name": "Köln", "rounds": 2}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named_with_what_to_do(encoding, tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(TOML.encode(encoding))
    with pytest.raises(ValueError, match=r"UTF-16 \(as Notepad's .*; save it as UTF-8"):
        read_text(path)


def test_latin_1_is_named_with_its_line(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes('rounds = 2\nname = "Köln"\n'.encode("latin-1"))
    with pytest.raises(ValueError, match="line 2 is not UTF-8, perhaps Latin-1; save it as UTF-8"):
        read_text(path)
