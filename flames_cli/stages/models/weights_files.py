"""Files of weights from other programs, such as the checkpoints of the FLAMES authors, as models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import find_negative_variance
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError
from flames_cli.learn.hardware import find_versions
from flames_cli.learn.models import options_for, plugin_of
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training

NORMS = ("batch", "group", "frozen")
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


def make_facts(
    modality: str | None, size: int | None, window: str | None, norm: str, **others: Any
) -> WeightsFacts:
    """Return the facts of a file of weights from typed options.

    Args:
        modality: the modality; required.
        size: side of the images, in pixels; required.
        window: two numbers, `LOW,HIGH`.
        norm: normalisation layers.
        others: the other fields of WeightsFacts.

    Raises:
        FlamesError: a required option is missing, or one has an impossible value.
    """
    if not modality or size is None:
        missing = "--size" if modality else "--modality"
        raise FlamesError(
            f"got --architecture without {missing}, expected both; pass {missing} of the images that the "
            "weights are for"
        )
    if norm not in NORMS:
        raise FlamesError(f"got --norm {norm}, expected one of {', '.join(NORMS)}; change --norm")
    if others["channels"] not in (1, 3):
        raise FlamesError(
            f"got --channels {others['channels']}, expected 1 (grey) or 3 (colour); change --channels"
        )
    if not 0 < others["threshold"] < 1:
        raise FlamesError(
            f"got --threshold {others['threshold']:g}, expected a number above 0 and below 1; change "
            "--threshold"
        )
    return WeightsFacts(modality=modality, size=size, window=_parse_window(window), norm=norm, **others)


def _parse_window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise FlamesError(
            f"got --window {text}, expected two numbers, the lower first; write it as --window=-160,240"
        )
    return low, high


def is_weights_file(path: Path) -> bool:
    """Return whether the name of a file is that of a file of weights."""
    return path.suffix.lower() in SUFFIXES


def read_weights_file(path: Path, facts: WeightsFacts, name: str) -> tuple[ModelInfo, Weights]:
    """Return the model of a file of weights, under `name`.

    Raises:
        FlamesError: the file cannot be read, or has weights of another architecture, or numbers that cannot
            be used.
    """
    # Imported here, since it imports torch, which takes seconds.
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
        architecture=Architecture(facts.architecture, facts.norm, options, plugin_of(facts.architecture)),
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
