"""The state of a process that works with stages: the same for the command line and for Python code."""

import os
import warnings
from pathlib import Path

from flames_cli.errors import FlamesError

VARIABLES = {
    # Flower asks this variable on import: nothing is sent from a hospital unless its owner says so.
    "FLWR_TELEMETRY_ENABLED": "0",
    # Torch's threads spin long while they wait, which starves a busy machine (docs/performance.md).
    "GOMP_SPINCOUNT": "5000",
}
"""Environment variables that are set unless the user has set them."""


def set_up_process() -> None:
    """Set the environment variables and the filter of warnings that every stage expects.

    It may be called again, which changes nothing.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    # Libraries warn of odd files by path; what matters of that is an error of ours, which names the file.
    warnings.filterwarnings("ignore", module=r"PIL|pydicom|nibabel")


def check_workspace(workspace: Path) -> None:
    """Check that the workspace is not a file.

    Raises:
        FlamesError: it is a file.
    """
    if workspace.is_file():
        raise FlamesError(f"{workspace} is a file, expected the workspace's folder; check --workspace")
