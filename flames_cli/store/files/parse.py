"""JSON and TOML that others may have written: every error in them is a ValueError."""

import json
import tomllib
from typing import Any

_DEEP = "it is nested too deeply"


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
        ValueError: `text` is not TOML, or is nested deeper than Python can follow.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error
