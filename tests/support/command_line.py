"""The command line in processes of its own."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAIN = {"FLAMES_WORKSPACE": None, "FORCE_COLOR": None, "COLUMNS": "80"}
"""Changes of the environment that hide the tester's own terminal."""

SMALL_FEDERATION = ("--model", "unet", "--model-option", "base_channels=4", "--model-option", "depth=2")
SMALL_FEDERATION += ("--batch-size", "8", "--lr", "1e-3", "--device", "cpu")
"""Options of a federation that takes seconds."""


def shell_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that finds the package from any folder."""
    others = {name: value for name, value in os.environ.items() if name not in PLAIN}
    return {**others, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **changes}
