"""A model whose mask is known: it finds what is bright. Its weights are set by hand."""

from pathlib import Path
from typing import Any

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training, write_model

OPTIONS: dict[str, int | float | str] = {"base_channels": 1, "depth": 1}
GAIN = 8.0
"""The logit of a pixel of value v, in [0, 1], is GAIN · (v − 0.5): its probability is 0.5 at 0.5."""
WINDOW = IntensityRule(window=(0.0, 100.0))


def bright_weights(channels: int = 1, gain: float = GAIN) -> Weights:
    """Return the weights of a U-Net that hands the intensity of each pixel through to its head."""
    weights = to_weights(build_model("unet", seed=0, in_channels=channels, **OPTIONS))
    for name, array in weights.items():
        if "running_var" in name or name.endswith((".1.weight", ".4.weight")):
            array[...] = 1
        elif "num_batches" not in name:
            array[...] = 0
    for name in ("encoders.0.1", "encoders.0.4", "decoders.0.1", "decoders.0.4"):
        weights[f"{name}.running_var"][...] = 1 - 1e-5  # BatchNorm adds 1e-5
    # The input is 2v - 1; adding 1 before the first ReLU keeps dark pixels apart, too.
    weights["encoders.0.0.weight"][0, :, 1, 1] = 1 / channels
    weights["encoders.0.0.bias"][...] = 1
    weights["encoders.0.3.weight"][0, 0, 1, 1] = 1
    weights["decoders.0.0.weight"][0, 1, 1, 1] = 1  # the second input is the skip
    weights["decoders.0.3.weight"][0, 0, 1, 1] = 1
    weights["head.weight"][...] = gain / 2
    weights["head.bias"][...] = -gain / 2
    return weights


def probability_of(value: Any, gain: float = GAIN) -> Any:
    """Return the probability that the model gives to pixels of these values, in [0, 1]."""
    return 1 / (1 + np.exp(-gain * (np.asarray(value, float) - 0.5)))


def write_bright_model(
    folder: Path,
    size: int,
    channels: int = 1,
    modality: str = "MRI",
    rules: tuple[IntensityRule, ...] = (WINDOW,),
    gain: float = GAIN,
    plane: str = "axial",
    **facts: Any,
) -> Path:
    """Write its model folder, and return it."""
    images = ModelInput(modality, ("brain",), size, channels, plane, "aligned", rules)
    info = ModelInfo(
        folder.name, Architecture("unet", options=dict(OPTIONS)), images, Training("file"), **facts
    )
    write_model(folder, info, bright_weights(channels, gain), "# card\n")
    return folder
