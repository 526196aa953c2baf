"""Files of every format: versioned, checked when read, written to a temporary name and then moved."""

from pathlib import Path

DEFAULT_WORKSPACE = Path("flames-workspace")
"""Folder of all artifacts where no other is given; it is here since `config` and the command line need it."""
