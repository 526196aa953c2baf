"""Tables inside a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of texts; its first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Iterable[str]]
