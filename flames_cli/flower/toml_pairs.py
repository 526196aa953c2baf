"""Key-value pairs in the syntax of Flower's command line, in which any text is possible."""

from collections.abc import Mapping

from flames_cli.errors import FlamesError


def config_pairs(config: Mapping[str, str | int | float | bool]) -> str:
    """Return the argument of `--run-config`, `--node-config` or `--federation-config`: `key="value" …`.

    Flower finds the pairs with a regular expression, in which a quotation mark ends the value, and reads each
    as TOML. Quotation marks and control characters are therefore written as TOML's escapes.

    Raises:
        FlamesError: a value cannot be encoded as UTF-8 (a path with damaged characters).
    """
    return " ".join(f"{key}={_toml_value(key, value)}" for key, value in config.items())


def _toml_value(key: str, value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise FlamesError(f"{key} is {value!r}, expected Unicode text; rename that file or folder")
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    plain = character.isprintable() and character not in '"\\'
    return character if plain else f"\\U{ord(character):08X}"
