"""Options with which the stages take a second: a small model on the CPU."""

from pathlib import Path
from typing import Any

from flames_cli.config import EvaluateConfig, FederateConfig

SMALL_MODEL: dict[str, int | float] = {"base_channels": 4, "depth": 2}


def federate_config(workspace: Path, **options: Any) -> FederateConfig:
    """Return the options of a federation of two rounds of the small model."""
    small = {
        "rounds": 2,
        "batch_size": 8,
        "lr": 1e-2,
        "model": "unet",
        "model_options": SMALL_MODEL,
        "device": "cpu",
    }
    return FederateConfig(workspace=workspace, **{**small, **options})


def evaluate_run(workspace: Path, run: str = "flames", /, **options: Any) -> Any:
    """Evaluate that run without pictures."""
    from flames_cli.stages.evaluate.stage import evaluate

    small = {"device": "cpu", "precision": "fp32", "overlays": False, "batch_size": 8}
    return evaluate(EvaluateConfig(workspace=workspace, run=run, **{**small, **options}))
