"""Key-value pairs as Flower's command line reads them: any text survives."""

from collections.abc import Mapping

from flames_cli.errors import FlamesError


def config_pairs(config: Mapping[str, str | int | float | bool]) -> str:
    """The argument of `--run-config`, `--node-config` or `--federation-config`: `key="value" …`.

    Flower finds the pairs with a regular expression, in which a quote ends the value, and reads each as TOML:
    quotes and control characters are written as TOML's escapes.

    Raises:
        FlamesError: a value is not text that UTF-8 can hold (a path with damaged characters).
    """
    return " ".join(f"{key}={_quoted(key, value)}" for key, value in config.items())


def _quoted(key: str, value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise FlamesError(f"{key} is {value!r}, which is not Unicode text; rename that file or folder")
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    plain = character.isprintable() and character not in '"\\'
    return character if plain else f"\\U{ord(character):08X}"
