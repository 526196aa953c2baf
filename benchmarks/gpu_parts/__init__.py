"""These are the sections of `benchmarks/gpu.py`.

A machine lent for its GPU may have PyTorch and little else, so importing this package makes the checkout
importable, and lets zlib stand in for ISA-L where that is missing.
"""

import importlib
import sys
import types
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def stand_in_for_isal() -> None:
    """Put zlib in the place of `isal.isal_zlib`, whose only use here is to write deflate streams."""
    stand_in = types.ModuleType("isal")
    stand_in.isal_zlib = zlib  # type: ignore[attr-defined]
    sys.modules["isal"] = stand_in


if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
try:
    importlib.import_module("isal")
except ModuleNotFoundError:
    stand_in_for_isal()
