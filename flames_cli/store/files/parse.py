"""JSON and TOML that others may have written: every error in them is a ValueError."""

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any

_DEEP = "it is nested too deeply"

MOST_DOTS = 100
"""Largest number of dots in a line of TOML. The library takes time and memory that grow with the square of
the parts of a key such as a.a.a: a key of 40 kB takes 1.5 GB."""


UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark, and any line ends.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not in UTF-8; the message says which line is not, or which encoding it has.
    """
    return decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(content: bytes) -> str:
    """Return `content`, UTF-8 with or without a byte order mark, as a text.

    Raises:
        ValueError: it is not UTF-8, such as UTF-16, in which some Windows programs write by default.
    """
    if content.startswith(UTF_16):
        raise ValueError(f"it is UTF-16 ({_SOURCE}), expected UTF-8; {_SAVE}")
    if b"\0" in content:
        raise ValueError(f"it contains zero bytes, so it is UTF-16 ({_SOURCE}) or no text; {_SAVE}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8, perhaps Latin-1; {_SAVE}") from error


_SOURCE = "as Notepad's Unicode and PowerShell's > write it"
_SAVE = "save it as UTF-8"


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: `text` is not JSON, or is nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: `text` is not TOML, is nested deeper than Python can follow, or has a key of many parts.
    """
    if max(line.count(".") for line in text.split("\n")) > MOST_DOTS:
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error
