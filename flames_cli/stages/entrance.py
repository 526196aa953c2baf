"""The state of a process that works with stages: the same for the command line and for Python code."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from flames_cli.errors import FlamesError

if TYPE_CHECKING:
    from flames_cli.config import FederateConfig, Section

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


def check_options(options: "Section") -> None:
    """Check what the limits of an option cannot express: names, files of plug-ins, and the workspace.

    Raises:
        FlamesError: a strategy, a model or another member of a registry is not known, a file of plug-ins
            cannot be used, or the workspace is a file.
    """
    # Imported here: `flames --help` loads neither.
    from flames_cli.config import FederateConfig
    from flames_cli.plugins import use_files

    use_files(options.plugins)
    try:
        _check_names(options)
    except FlamesError:
        if isinstance(options, FederateConfig):
            _require_plugins_of_run(options)  # it says more than that a name is not known
        raise
    check_workspace(options.workspace)


def _check_names(options: "Section") -> None:
    from flames_cli.config import keys_with
    from flames_cli.plugins import GROUPS, registry_of

    for kind in GROUPS:
        for key in keys_with(type(options), "names", kind):
            asked = getattr(options, key)
            for name in (asked,) if isinstance(asked, str) else asked:
                registry_of(kind).require_known(name)


def _require_plugins_of_run(options: "FederateConfig") -> None:
    """Raise FlamesError if these options continue a run whose plug-ins are not there."""
    from flames_cli.stages.run_plugins import require_run_plugins
    from flames_cli.store.runs import run_folder

    folder = run_folder(options.workspace, options.run_name)
    if folder.config.is_file() and not options.fresh:
        require_run_plugins(folder)


def check_workspace(workspace: Path) -> None:
    """Check that the workspace is not a file.

    Raises:
        FlamesError: it is a file.
    """
    if workspace.is_file():
        raise FlamesError(f"{workspace} is a file, expected the workspace's folder; check --workspace")
