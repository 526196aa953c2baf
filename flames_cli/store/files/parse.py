"""JSON and TOML that others may have written: whatever is wrong with them is a ValueError."""

import json
import tomllib
from typing import Any

_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """What `text` says. Raises ValueError where it is no JSON, or nested deeper than Python can follow."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error


def parse_toml(text: str) -> dict[str, Any]:
    """What `text` says. Raises ValueError where it is no TOML, or nested deeper than Python can follow."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error
