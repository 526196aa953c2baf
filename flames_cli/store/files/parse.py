"""JSON and TOML that others may have written: every error in them is a ValueError."""

import json
import tomllib
from typing import Any

_DEEP = "it is nested too deeply"

MOST_DOTS = 100
"""Largest number of dots in a line of TOML. The library takes time and memory that grow with the square of
the parts of a key such as a.a.a: a key of 40 kB takes 1.5 GB."""


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
