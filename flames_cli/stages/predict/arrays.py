"""Prediction on an array of pixels, without files: prepared exactly as an image file of the same pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.geometry import map_from_square
from flames_cli.core.imaging.intensity import MAX_12_BIT
from flames_cli.errors import FlamesError
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.use import Predictor
from flames_cli.readers.base import RawCase, VolumeRules
from flames_cli.readers.formats.images import to_channels
from flames_cli.readers.formats.ranges import choose_range
from flames_cli.stages.predict.preparing import ModelPreparation, prepare_squares

NAME = "the array"
"""Name of the image in messages."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Tumour that a model finds in one image."""

    probabilities: NDArray[np.float32]
    """H×W in [0, 1], in the geometry of the image."""
    mask: Mask
    """H×W of 0 and 1: the pixels whose probability is above the threshold."""


def segment_array(
    image: NDArray[Any], how: ModelPreparation, predictor: Predictor, rule: MaskRule
) -> Segmentation:
    """Return what a model finds in one image.

    Args:
        image: H×W, or H×W×3 of red, green and blue. uint8 is used as it is; other values are scaled by the
            window or percentile of the model's preparation.
        how: the preparation of the model's images.
        predictor: the model.
        rule: rule that turns probabilities into the mask.

    Raises:
        FlamesError: the array is no image, or has numbers that the model cannot be given.
    """
    case = _as_case(image, how)
    squares = prepare_squares([case], how)
    found = predictor.probabilities(squares.part(0, 1), rule.tta)[0]
    height, width = image.shape[:2]
    values = map_from_square(found, height, width, how.mask_resize)
    return Segmentation(values, rule.mask(values))


def _as_case(image: Pixels, how: ModelPreparation) -> RawCase:
    _require_image(image)
    pixels = to_channels(image, how.channels == 3) if image.ndim == 3 or how.channels == 3 else image
    case = RawCase(
        case=NAME, patient=NAME, image=np.ascontiguousarray(pixels), mask=np.zeros(image.shape[:2], np.uint8)
    )
    if image.dtype == np.uint8:
        return case
    # Without a rule the range does not matter: `prepare_squares` rejects the image.
    low, high = choose_range(NAME, pixels, VolumeRules(""), how.read_options()) if how.intensities else (0, 1)
    return RawCase(case.case, case.patient, case.image, case.mask, low, high, MAX_12_BIT)


def _require_image(image: Pixels) -> None:
    """Check shape, type and values of an array.

    Raises:
        FlamesError: they are not those of an image.
    """
    is_colour = image.ndim == 3 and image.shape[2] == 3
    if image.ndim != 2 and not is_colour:
        raise FlamesError(
            f"got an array of shape {image.shape}, expected rows × columns, or rows × columns × 3 in colour; "
            "pass the slices of a volume one by one"
        )
    if 0 in image.shape or image.dtype.kind not in "uif" or (is_colour and image.dtype.kind != "u"):
        expected = (
            "uint8 or uint16 in colour" if is_colour else "integers or real numbers, at least one pixel"
        )
        raise FlamesError(
            f"got an array of {image.dtype} with shape {image.shape}, expected {expected}; convert it"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise FlamesError("got an array with NaN or infinite values, expected finite ones; replace them")
