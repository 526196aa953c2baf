"""Messages and states as JSON, with bytes in hexadecimal digits; strictly read."""

import json
from collections.abc import Mapping
from typing import Any

from flames_cli.secagg.errors import Declined

MOST_BYTES = 64 << 20
"""Largest message: that of 1000 clients is much smaller."""


def write_json(value: Any) -> bytes:
    """Return plain values, with bytes among them, as JSON."""
    return json.dumps(value, default=bytes.hex, separators=(",", ":")).encode()


class Reader:
    """Fields of a JSON object by name. Anything unexpected in the `with` block becomes `Declined`."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what = data, what
        self._fields: Mapping[str, Any] = {}

    def __enter__(self) -> "Reader":
        try:
            if len(self._data) > MOST_BYTES:
                raise ValueError("too long")
            fields = json.loads(self._data)
            if not isinstance(fields, dict):
                raise TypeError("no object")
        except (ValueError, TypeError, RecursionError) as error:
            raise self._unreadable() from error
        self._fields = fields
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | ValueError | TypeError | AttributeError):
            raise self._unreadable() from error

    def _unreadable(self) -> Declined:
        return Declined(
            f"{self._what} of secure aggregation cannot be read, expected the fields of this version; use "
            "the same version of FLAMES everywhere, and start the round again"
        )

    def value(self, name: str) -> Any:
        """Return a field as JSON has it."""
        return self._fields[name]

    def text(self, name: str) -> str:
        """Return a field that is text."""
        return _check_text(self._fields[name])

    def count(self, name: str) -> int:
        """Return a field that is an integer from 0 to 2^63."""
        value = self._fields[name]
        if type(value) is not int or not 0 <= value < 2**63:
            raise TypeError(name)
        return value

    def bytes(self, name: str, size: int | None = None) -> bytes:
        """Return a field of bytes, of `size` bytes if that is given."""
        return to_bytes(self._fields[name], size)

    def table(self, name: str) -> dict[str, Any]:
        """Return a field that is an object."""
        if not isinstance(value := self._fields[name], dict):
            raise TypeError(name)
        return {_check_text(key): item for key, item in value.items()}

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that is a list of texts."""
        if not isinstance(value := self._fields[name], list):
            raise TypeError(name)
        return tuple(_check_text(one) for one in value)


def to_bytes(value: object, size: int | None = None) -> bytes:
    """Return bytes of hexadecimal digits.

    Raises:
        TypeError, ValueError: they are none, or not of `size` bytes.
    """
    if not isinstance(value, str):
        raise TypeError("no text")
    found = bytes.fromhex(value)
    if size is not None and len(found) != size:
        raise ValueError("wrong size")
    return found


def _check_text(value: object) -> str:
    """Return `value` if it is text with a form in UTF-8."""
    if not isinstance(value, str):
        raise TypeError("no text")
    value.encode()  # JSON can have half a character, which nothing else could write
    return value
