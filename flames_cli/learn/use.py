"""Trained models on new images: arrays in, probabilities out. N images, S pixels."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.learn.data import to_inputs
from flames_cli.learn.devices import pick_device, pick_precision, place
from flames_cli.learn.model_plugins import require_model_plugin
from flames_cli.learn.models import build_model, check_options, options_for
from flames_cli.learn.models.arrays import check_fit, load_weights
from flames_cli.learn.predict import Tta, forward
from flames_cli.store.models import ModelInfo

ON_CPU, ON_GPU = 2, 32
"""Images in a step by default. On a CPU, 16 images of 240×240 are 5 % faster than 2 for each image (unet),
and need 500 MB more."""


class Predictor(Protocol):
    """One model, ready for use."""

    batch_size: int
    """Number of images in a step."""

    def probabilities(self, images: NDArray[np.float32], tta: Tta = "none") -> NDArray[np.float32]:
        """Return the probability of tumour of every pixel, N×S×S in [0, 1].

        Args:
            images: N×S×S, or N×S×S×3 in colour, in [0, 1], prepared as the model's training images were.
            tta: test-time augmentation.
        """
        ...


class OpenModel:
    """A model with its weights on one device, in evaluation mode."""

    def __init__(
        self, info: ModelInfo, weights: Weights, device: str, precision: str, batch_size: int | None
    ) -> None:
        self.info = info
        self._device = pick_device(device)
        self._precision = pick_precision(precision, self._device, info.architecture.model)
        self.batch_size = batch_size or (ON_CPU if self._device.type == "cpu" else ON_GPU)
        model = _build(info, weights)
        load_weights(model, weights)
        self._model = place(model, self._device, self._precision).eval()

    def probabilities(self, images: NDArray[np.float32], tta: Tta = "none") -> NDArray[np.float32]:
        """Return the probability of tumour of every pixel, N×S×S in [0, 1] (see `Predictor`)."""
        found = np.empty(images.shape[:3], np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = to_inputs(np.ascontiguousarray(images[start : start + self.batch_size]))
            made = forward(self._model, batch, self._device, self._precision, tta)
            found[start : start + len(batch)] = made[:, 0].cpu().numpy()
        return found


def open_model(
    info: ModelInfo,
    weights: Weights,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
) -> OpenModel:
    """Return a model that is ready for images.

    Names and shapes of the weights are compared with the architecture before any memory is allocated for it:
    a file that describes a huge model with small weights is rejected.

    Args:
        info: the model.
        weights: its weights.
        device: one of `devices.DEVICES`.
        precision: one of `devices.PRECISIONS`.
        batch_size: number of images in a step; None: ON_CPU or ON_GPU.

    Raises:
        FlamesError: the architecture is not known, the weights do not fit it, or this machine has no such
            device.
    """
    return OpenModel(info, weights, device, precision, batch_size)


def mean_probabilities(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean of the probabilities of several models, arrays of one shape."""
    if len(maps) == 1:
        return maps[0]
    return np.asarray(np.mean(maps, axis=0, dtype=np.float64), np.float32)


def check_model(info: ModelInfo, weights: Weights) -> None:
    """Check that the architecture is known and that the weights fit it; no memory is allocated for it.

    Raises:
        FlamesError: the architecture or its plug-in is not known, it cannot be built, or the weights do not
            fit it.
    """
    require_model_plugin(info)
    made = info.architecture
    options = options_for(info.input.channels, made.options)
    # Other arguments of `build_model`, such as a file of weights, are no options of a model.
    check_options(made.model, options)
    try:
        with torch.device("meta"):
            shapes = build_model(made.model, norm=made.norm, **options)
    except (RuntimeError, ValueError, OverflowError, ArithmeticError) as error:
        raise FlamesError(
            f"model '{info.name}' cannot be built with its options ({_first_line(error)}), expected those of "
            f"a trained {made.model}; export the model again"
        ) from error
    check_fit(shapes, weights)


def _build(info: ModelInfo, weights: Weights) -> Any:
    """Return the untrained network, after the weights were compared with it."""
    check_model(info, weights)
    made = info.architecture
    options = options_for(info.input.channels, made.options)
    return build_model(made.model, seed=0, norm=made.norm, **options)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:100]
