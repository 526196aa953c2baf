"""Warnings where an input is unlike the images that the model was trained on."""

from collections.abc import Iterator
from statistics import median

import numpy as np

from flames_cli.core.imaging.appearance import Appearance, describe_appearance
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_references import CHECKED
from flames_cli.readers.formats.ranges import family_of
from flames_cli.readers.inputs import InputImage
from flames_cli.stages.predict.preparing import Prepared, Squares
from flames_cli.store.models import ModelInfo

NAMES = ("mean", "deviation", "black")
MARGIN = 0.1
"""Share of a range by which an image may be outside of it on either side: the range is that of most training
images, not of all."""
ROUNDING = 0.005
"""Share of an end of a range by which an image may be outside of it besides: images of one size have a range
without length, and its ends are rounded."""
SEEN = ", training images had "
"""Text between the numbers of an input and those of the training images."""


def require_modality(image: InputImage, model: str, modality: str) -> None:
    """Check that an input is not of another modality than the model.

    Only modalities that DICOM files state by one name are compared; names of the user's own decide nothing.

    Args:
        image: the input.
        model: name of the model.
        modality: modality of the model's images.

    Raises:
        BadCase: its DICOM file, or its row in the manifest, states another modality.
    """
    stated, expected = family_of(image.modality), family_of(modality)
    if is_other_modality(stated, expected):
        raise BadCase(
            f"it is {image.modality}, and model {model} is for {modality}; pass a model for "
            f"{image.modality}, or --any-modality to predict nevertheless"
        )


def is_other_modality(stated: str, expected: str) -> bool:
    """Return whether two modalities, each a family (see `family_of`), certainly differ."""
    known = {*CHECKED}
    return stated != expected and bool(stated) and stated in known and expected in known


def find_warnings(prepared: Prepared, info: ModelInfo, squares: Squares) -> list[str]:
    """Return one line for each property of an input that is outside of what the model has seen.

    A volume is judged by the median of its slices that show anything.

    Args:
        prepared: the input.
        info: the model.
        squares: the input's images as this model receives them.
    """
    stated, expected = family_of(prepared.image.modality), family_of(info.input.modality)
    found = []
    if is_other_modality(stated, expected):
        found.append(f"modality {prepared.image.modality}, the model is for {info.input.modality}")
    return [*found, *_outside_of_seen(prepared, info, squares)]


def _outside_of_seen(prepared: Prepared, info: ModelInfo, squares: Squares) -> Iterator[str]:
    seen = info.seen
    if seen is None:
        return
    looks = typical_appearance(squares)
    sizes = [(prepared.shape[0], seen.rows), (prepared.shape[1], seen.columns)]
    if any(_is_outside(value, limits) for value, limits in sizes):
        (rows, of_rows), (columns, of_columns) = sizes
        usual = f"{_range(of_rows)} rows and {_range(of_columns)} columns"
        yield f"{rows} rows and {columns} columns{SEEN}{usual}"
    pixel = prepared.spacing_mm[0]
    if seen.pixel_mm and np.isfinite(pixel) and _is_outside(pixel, seen.pixel_mm):
        yield f"pixels of {_number(pixel)} mm{SEEN}{_range(seen.pixel_mm, ' mm')}"
    for name, value, limits in (
        ("mean intensity", looks.mean, seen.mean),
        ("contrast (standard deviation)", looks.deviation, seen.deviation),
        ("share of black pixels", looks.black, seen.black),
    ):
        if _is_outside(value, limits):
            yield f"{name} {value:.2f}{SEEN}{limits[0]:.2f} to {limits[1]:.2f}"


def typical_appearance(squares: Squares) -> Appearance:
    """Return the appearance of prepared images: the median of each number over those that are not black."""
    found = [describe_appearance(squares.part(index, index + 1)) for index in range(len(squares.pixels))]
    shown = [one for one in found if one.black < 1] or found
    return Appearance(*(float(median([getattr(one, name) for one in shown])) for name in NAMES))


def _is_outside(value: float, limits: tuple[float, float]) -> bool:
    margin = MARGIN * (limits[1] - limits[0]) + ROUNDING * abs(limits[1])
    return not limits[0] - margin <= value <= limits[1] + margin


def _range(limits: tuple[float, float], unit: str = "") -> str:
    low, high = map(_number, limits)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _number(value: float) -> str:
    """Return a size with three digits at least, never as a power of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
