"""Labels of masks as texts: numbers, colours, or names."""

import re
from collections.abc import Iterable


def split_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a text, separated by commas or semicolons, each once.

    Spreadsheets may write 2 as 2.0, which becomes 2.
    """
    labels = (label.strip() for label in re.split("[;,]", text))
    return tuple(dict.fromkeys(re.sub(r"^(\d+)\.0+$", r"\1", label) for label in labels if label))


BACKGROUND = frozenset({"0", "#000000"})
"""Labels of the background, which is no tumour in any mask."""


def colour_number(name: str) -> int | None:
    """Return the number of a colour such as #ff0000, red first; None if `name` is not one."""
    return int(name[1:], 16) if re.fullmatch("#[0-9a-fA-F]{6}", name) else None


def colour_name(number: int) -> str:
    """Return the name of a colour, the inverse of `colour_number`."""
    return f"#{number:06x}"


def option_text(labels: Iterable[str]) -> str:
    """Return the option that chooses `labels`, as a user can copy it: a shell takes `#` for a comment."""
    listed = ",".join(labels)
    return f'--labels "{listed}"' if "#" in listed else f"--labels {listed}"
