"""Origin that every written file states: the model that made it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flames_cli.errors import FlamesError

Content = Literal["mask", "probability"]
"""Content of a file: 0 and 1, or the probability of tumour in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ModelLabel:
    """Model that made a mask."""

    name: str
    version: str
    """Version of FLAMES, or of the model."""

    def describe(self, content: Content) -> str:
        """Return the text that a file contains about its content."""
        return f"tumour {content} by FLAMES model {self.name} ({self.version})"


@dataclass(frozen=True, slots=True)
class Written:
    """File that was written."""

    path: Path
    notes: tuple[str, ...] = ()
    """Remarks for the user, without names of files or patients."""


def name_file(target: Path, suffix: str, overwrite: bool) -> Path:
    """Return `target` with `suffix` added to its name, which may contain dots.

    Raises:
        FlamesError: the file exists, and `overwrite` is False.
    """
    path = target.with_name(target.name + suffix)
    if path.exists() and not overwrite:
        raise FlamesError(f"{path} exists already, expected a new file; name another folder with --out")
    return path
