"""Files of weights from other programs, such as the checkpoints of the FLAMES authors, as models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import find_negative_variance
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError
from flames_cli.stages.export.making import find_versions
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training

SUFFIXES = (".safetensors", ".pth", ".pt")
"""Suffixes of files of weights."""


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """All that a file of weights does not say of its model."""

    architecture: str
    """Name of the model, such as densenet-unet."""
    modality: str
    size: int
    """Side of the images, in pixels."""
    channels: int = 1
    norm: str = "batch"
    options: Mapping[str, int | float | str] = field(default_factory=dict)
    organs: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    """Intensities that become 0 and 1; None: 0 and the 95th percentile of the volume."""
    threshold: float = 0.5
    licence: str = ""


def is_weights_file(path: Path) -> bool:
    """Return whether the name of a file is that of a file of weights."""
    return path.suffix.lower() in SUFFIXES


def read_weights_file(path: Path, facts: WeightsFacts, name: str) -> tuple[ModelInfo, Weights]:
    """Return the model of a file of weights, under `name`.

    Raises:
        FlamesError: the file cannot be read, or has weights of another architecture, or numbers that cannot
            be used.
    """
    # Imported here, since both import torch, which takes seconds.
    from flames_cli.learn.models import options_for
    from flames_cli.learn.models.weights import read_complete

    options = options_for(facts.channels, facts.options)
    weights = read_complete(path, facts.architecture, facts.norm, options)
    variances = {entry for entry in weights if entry.endswith(".running_var")}
    if fault := find_negative_variance(weights, variances):
        raise FlamesError(
            f"{path} has weights that cannot be used ({fault}), expected variances of 0 or more; save the "
            "weights again"
        )
    return _describe(facts, dict(options), name), weights


def _describe(facts: WeightsFacts, options: dict[str, int | float | str], name: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        architecture=Architecture(facts.architecture, facts.norm, options),
        input=ModelInput(
            modality=facts.modality,
            organs=facts.organs,
            size=facts.size,
            channels=facts.channels,
            intensities=(IntensityRule(window=facts.window),),
        ),
        training=Training(kind="file"),
        threshold=facts.threshold,
        versions=find_versions(),
        licence=facts.licence,
    )
