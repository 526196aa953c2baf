"""Check of the cases that the reader of a plug-in returns."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.intensity import MAX_8_BIT, MAX_12_BIT
from flames_cli.core.imaging.volumes import PLANES, Placement, are_axes
from flames_cli.plugins import Origin, one_line
from flames_cli.readers.base import EMPTY_MASK, BadCase, RawCase, Reader, ReadOptions, SkippedCase, Source

LARGEST = 1e30
"""Largest size of an intensity: far above any scanner's, and small enough to compute with."""


def take_cases(
    cases: Sequence[object], source: Source, options: ReadOptions, reader: Reader, origin: Origin
) -> list[RawCase]:
    """Return the cases of one source as the stages expect them: arrays in one block, masks of uint8.

    Raises:
        BadCase: a case is wrong; the message names the plug-in.
        SkippedCase: no case has a lesion, and the options leave such sources out.
    """

    def require(fault: str) -> None:
        if fault:
            raise BadCase(f"{source.name}: the plug-in {origin} gives {fault}; ask its author")

    require("" if cases else "no case, expected one or more, or a SkippedCase with the reason")
    taken: list[RawCase] = []
    for case in cases:
        if not isinstance(case, RawCase):
            raise BadCase(
                f"{source.name}: the plug-in {origin} gives {type(case).__name__}, expected a RawCase; ask "
                "its author"
            )
        for fault_of in (_fact_fault, _array_fault, _number_fault):
            require(_named(case, fault_of(case, source, options)))
        require(_named(case, _place_fault(case, reader)))
        image = np.ascontiguousarray(case.image, _plain_type(case.image))
        taken.append(replace(case, image=image, mask=np.ascontiguousarray(case.mask, np.uint8)))
    require(_fault_together(taken, reader))
    if not options.keep_empty and not any(case.mask.any() for case in taken if case.selected):
        raise SkippedCase(EMPTY_MASK)
    return taken


def _named(case: RawCase, fault: str) -> str:
    return f"a wrong case {one_line(case.case)}: {fault}" if fault else ""


def _fact_fault(case: RawCase, source: Source, _: ReadOptions) -> str:
    if not isinstance(case.case, str) or not case.case.strip():
        return "its name is empty"
    if case.patient != source.patient:
        return "its patient is not that of its source"
    if not isinstance(case.selected, bool):
        return f"selected is {one_line(repr(case.selected))}, expected True or False"
    for name, kind in (("labels", frozenset), ("notes", tuple)):
        value = getattr(case, name)
        if not isinstance(value, kind) or not all(isinstance(one, str) for one in value):
            return f"{name} is {one_line(repr(value))}, expected a {kind.__name__} of texts"
    return ""


def _array_fault(case: RawCase, _: Source, options: ReadOptions) -> str:
    image, mask = case.image, case.mask
    for name, array, kinds in (("image", image, "uif"), ("mask", mask, "bui")):
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            return f"the {name} is {type(array).__name__}, expected an array of NumPy"
        if array.dtype.kind not in kinds:
            return f"the {name} has the type {array.dtype}, expected {EXPECTED[name]}"
    expected = "H×W×3, since colour is wanted" if options.colour else "H×W"
    if image.ndim != (3 if options.colour else 2) or image.shape[2:] not in ((), (3,)) or not image.size:
        return f"the image has the shape {_shape(image)}, expected {expected}"
    if mask.shape != image.shape[:2]:
        return f"the mask has the shape {_shape(mask)}, its image {_shape(image)}"
    if mask.min() < 0 or mask.max() > 1:
        return f"the mask has the values {mask.min()} to {mask.max()}, expected 0 and 1"
    lowest, highest = float(image.min()), float(image.max())
    if not (math.isfinite(lowest) and math.isfinite(highest) and max(-lowest, highest) <= LARGEST):
        return f"the image has the values {lowest:g} to {highest:g}, expected finite ones"
    return ""


EXPECTED = {"image": "integers or floats", "mask": "bool or integers"}
"""Types of the arrays, in words."""


def _number_fault(case: RawCase, *_: object) -> str:
    for name in ("low", "high"):
        if not _is_number(getattr(case, name), math.isfinite):
            return f"{name} is {one_line(repr(getattr(case, name)))}, expected a finite number"
    if not np.float32(case.low) < np.float32(case.high):
        return f"low is {case.low:g} and high {case.high:g}, expected low below high"
    if case.max_value not in (MAX_8_BIT, MAX_12_BIT):
        return f"max_value is {one_line(repr(case.max_value))}, expected {MAX_8_BIT} or {MAX_12_BIT}"
    plain = case.max_value == MAX_8_BIT and (case.low, case.high) == (0, MAX_8_BIT)
    if plain and case.image.dtype != np.uint8:
        return (
            f"the image has the type {case.image.dtype} with low 0, high 255 and max_value 255, expected "
            f"uint8; set low and high to the values of black and white, and max_value to {MAX_12_BIT}"
        )
    spacing = case.spacing_mm
    if not isinstance(spacing, tuple) or len(spacing) != 2 or not all(_is_spacing(one) for one in spacing):
        return f"spacing_mm is {one_line(repr(spacing))}, expected two numbers above 0, or NaN"
    if isinstance(case.slice_index, bool) or not isinstance(case.slice_index, int):
        return f"slice_index is {one_line(repr(case.slice_index))}, expected an integer"
    return ""


def _place_fault(case: RawCase, reader: Reader) -> str:
    place = case.place
    if place is None:
        return "it has no place, expected one: the reader has volume_rules" if reader.volume_rules else ""
    if not isinstance(place, Placement):
        return f"place is {type(place).__name__}, expected a Placement or None"
    try:
        is_sound = (
            are_axes(place.axes)
            and place.plane in PLANES
            and len(place.affine) == 16
            and all(_is_number(one, math.isfinite) for one in place.affine)
            and len(place.shape) == 3
            and 0 <= place.index < place.n_slices
        )
    except (TypeError, ValueError, KeyError, IndexError):
        is_sound = False
    return (
        "" if is_sound else "its place is no slice of its volume: check plane, index, shape, axes and affine"
    )


def _fault_together(cases: Sequence[RawCase], reader: Reader) -> str:
    names = [case.case for case in cases]
    if repeated := [name for name in names if names.count(name) > 1]:
        return f"two cases called {one_line(repeated[0])}, expected names that differ"
    placed = [case.place for case in cases if case.place]
    if len(placed) not in (0, len(cases)):
        return "cases of a volume and other cases of one source, expected one kind"
    if not placed and len(cases) > 1:
        return f"{len(cases)} still images of one source, expected one: list a source for each"
    if len({(one.plane, one.shape) for one in placed}) > 1 or len({one.index for one in placed}) < len(
        placed
    ):
        return "slices of several volumes, or one slice twice, expected those of one volume"
    if len({(case.image.ndim, case.max_value, case.labels) for case in cases}) > 1:
        return "cases of one source whose channels, max_value or labels differ, expected the same"
    return "" if any(case.selected for case in cases) else "no selected case, expected one or more"


def _is_number(value: object, rule: Callable[[float], bool]) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and rule(float(value))


def _is_spacing(value: object) -> bool:
    return _is_number(value, lambda number: math.isnan(number) or 0 < number < math.inf)


def _plain_type(image: NDArray[Any]) -> np.dtype[Any]:
    """Return the type in which an image is used: OpenCV knows neither float16 nor integers of 8 bytes."""
    odd = image.dtype.itemsize > 8 or image.dtype == np.float16
    return (
        np.dtype(np.float64)
        if odd or (image.dtype.kind != "f" and image.dtype.itemsize == 8)
        else image.dtype
    )


def _shape(array: NDArray[Any]) -> str:
    return "×".join(map(str, array.shape)) or "of one number"
