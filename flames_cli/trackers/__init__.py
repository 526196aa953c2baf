"""Trackers of experiments: TensorBoard, MLflow, Weights & Biases, and CSV files.

Each gets the same figures under the same names (`trackers.figures`). Its package is imported when it is used.
"""

import importlib
import importlib.util
from collections.abc import Iterable

from flames_cli.errors import FlamesError
from flames_cli.trackers.base import Tracker

TRACKERS = ("tensorboard", "mlflow", "wandb", "csv")
"""Names of the trackers."""

_CLASSES = {
    "tensorboard": ("tensorboard_events", "TensorBoardTracker"),
    "mlflow": ("mlflow_runs", "MlflowTracker"),
    "wandb": ("wandb_runs", "WandbTracker"),
    "csv": ("csv_tables", "CsvTracker"),
}
"""Module and class by tracker."""


def check_trackers(names: Iterable[str]) -> None:
    """Check that the packages of trackers are installed.

    Raises:
        FlamesError: one is not.
    """
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name has no origin
            raise FlamesError(
                f"--track {name} needs the package {name}, which is not installed; run pip install "
                f"'flames-cli[{name}]', or leave --track {name} out"
            )


def make_tracker(name: str) -> Tracker:
    """Return a new tracker; its package is imported here, which may take a second."""
    module, kind = _CLASSES[name]
    made: Tracker = getattr(importlib.import_module(f"flames_cli.trackers.{module}"), kind)()
    return made
