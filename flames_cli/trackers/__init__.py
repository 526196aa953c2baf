"""Trackers of experiments: TensorBoard, MLflow, Weights & Biases, and CSV files.

Each gets the same figures under the same names (`trackers.figures`). Its package is imported when it is used.
"""

import importlib.util
from collections.abc import Callable, Iterable

from flames_cli.errors import FlamesError, install_extra
from flames_cli.plugins import Registry
from flames_cli.trackers.base import Tracker

METHODS = ("start", "round", "final", "finish")
"""Methods of a tracker (see `trackers.base.Tracker`)."""


def _check_tracker(found: object) -> str:
    if not callable(found):
        return f"it is {type(found).__name__}, expected a class"
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    return f"it has no method {', '.join(missing)}" if missing else ""


TRACKERS: Registry[Callable[[], Tracker]] = Registry(
    "trackers",
    {
        "tensorboard": "flames_cli.trackers.tensorboard_events:TensorBoardTracker",
        "mlflow": "flames_cli.trackers.mlflow_runs:MlflowTracker",
        "wandb": "flames_cli.trackers.wandb_runs:WandbTracker",
        "csv": "flames_cli.trackers.csv_tables:CsvTracker",
    },
    check=_check_tracker,
)
"""Class of each tracker."""


def check_trackers(names: Iterable[str]) -> None:
    """Check that the packages of built-in trackers are installed, and that those of plug-ins can be used.

    Raises:
        FlamesError: one is not.
    """
    for name in names:
        if name in TRACKERS.builtin:
            check_package(name)
        else:
            TRACKERS.look_up(name)


def check_package(name: str) -> None:
    """Check that the package of a built-in tracker is installed.

    Raises:
        FlamesError: it is not.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # a folder of that name has no origin
        raise FlamesError(
            f"--track {name} needs the package {name}, which is not installed; "
            f"run {install_extra(name)}, or leave --track {name} out"
        )


def make_tracker(name: str) -> Tracker:
    """Return a new tracker; its package is imported here, which may take a second."""
    return TRACKERS.look_up(name)()
