"""Find the tumour in masks of any format, by the labels or the threshold of the user or of the data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.label_names import colour_name, colour_number
from flames_cli.core.imaging.labels import (
    NOISE,
    Flags,
    SeveralLabels,
    Threshold,
    TumourRule,
    are_levels_noisy,
    find_coloured_tumour,
    find_tumour,
)
from flames_cli.readers.base import NONE_CHOSEN, BadCase, ReadOptions, Source, UnchosenLabels
from flames_cli.readers.formats.images import StoredImage, read_stored_image


class OtherShape(BadCase):
    """A mask with another shape than its image."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """The values of masks that are tumour, as the user or the data set names them."""

    labels: tuple[str, ...] = ()
    """Numbers, or colours such as #ff0000; empty: the only label of a mask."""
    threshold: Threshold = None
    """Threshold of soft masks; it replaces labels."""
    has_choice: bool = False
    """True if the user can choose labels; it changes only the advice of errors."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Tumour of one or more masks."""

    tumour: Flags
    """True for tumour; H×W or X×Y×Z."""
    labels: frozenset[str] = frozenset()
    """Labels of the masks that are tumour; none with a threshold."""
    notes: tuple[str, ...] = ()
    """Remarks about the masks (see RawCase)."""


def join(marked: Sequence[Marked]) -> Marked:
    """Return the union of at least one mask."""
    return Marked(
        tumour=reduce(np.logical_or, (one.tumour for one in marked)),
        labels=frozenset(label for one in marked for label in one.labels),
        notes=tuple(dict.fromkeys(note for one in marked for note in one.notes)),
    )


def user_rule(source: Source, options: ReadOptions) -> MaskRule:
    """Return the rule for the user's own data: the labels of the source, else the labels or the threshold of
    the options."""
    threshold = None if source.labels else options.mask_threshold
    return MaskRule(source.labels or options.labels, threshold, has_choice=True)


def read_mask(path: Path, shape: tuple[int, ...], rule: MaskRule) -> Marked:
    """Return the tumour of a mask that is a still image.

    Args:
        path: the mask: PNG, JPEG, TIFF or BMP.
        shape: shape of the image, H×W.
        rule: values that are tumour.

    Raises:
        BadCase: the mask is missing or corrupt, has another shape, or has values to which the rule does not
            apply.
    """
    stored = read_stored_image(path)
    require_shape(path, stored.pixels, shape)
    return mark_still(path, stored, rule)


def require_shape(path: Path, mask: Pixels, shape: tuple[int, ...]) -> None:
    """Raise BadCase if a mask (H×W or H×W×3) does not have the `shape` of its image."""
    if mask.shape[:2] != shape:
        raise OtherShape(
            f"{path.name}: the mask is {mask.shape[0]}×{mask.shape[1]}, its image {shape[0]}×{shape[1]}"
        )


def mark_tumour(path: Path, values: NDArray[Any], rule: MaskRule) -> Marked:
    """Return the tumour of a mask of numbers, in its shape and memory order.

    Raises:
        BadCase: the rule does not apply to its values (see `core.imaging.labels`).
    """
    numbers = {label: _grey_of(label) for label in rule.labels}
    named = {label: [number] for label, number in numbers.items() if number is not None}
    return _mark(path, values, rule, named)


def mark_still(path: Path, stored: StoredImage, rule: MaskRule) -> Marked:
    """Return the tumour of the pixels of a still image; `path` is for messages.

    Raises:
        BadCase: the rule does not apply to its values.
    """
    pixels, palette = stored.pixels, stored.palette
    if stored.is_jpeg and 0 < pixels.max() < NOISE:
        raise BadCase(
            f"{path.name}: the largest value of the mask is {pixels.max()} in a JPEG, whose noise is as "
            "large; expected black and white; export the mask again, as PNG"
        )
    if stored.is_jpeg and rule.labels and are_levels_noisy(pixels):
        raise BadCase(
            f"{path.name}: the mask is a JPEG, whose noise has changed the labels {_quote(rule.labels)}; "
            "expected a file without loss; export the mask again, as PNG, or if it is black and white pass "
            "--mask-threshold HALF instead of --labels"
        )
    if palette is not None:
        return _mark_indexed(path, pixels, palette, rule)
    if pixels.ndim == 2 or _is_grey(pixels):
        return mark_tumour(path, pixels if pixels.ndim == 2 else pixels[..., 0], rule)
    if pixels.dtype != np.uint8:
        raise BadCase(f"{path.name}: the mask has colours of 16 bits, expected 8; save it with 8 bits")
    colours = {label: colour_number(label) for label in rule.labels}
    named = {label: [number] for label, number in colours.items() if number is not None}
    if rule.labels and not named:
        raise BadCase(
            f"{path.name}: the labels of the mask are colours, expected those of tumour, such as '#ff0000'; "
            f"{_quote(rule.labels)} names no colour; correct --labels or the column labels"
        )
    return _mark(path, pixels, rule, named, find_coloured_tumour)


def _mark_indexed(path: Path, indices: Pixels, palette: Pixels, rule: MaskRule) -> Marked:
    """Mark tumour in an image with a palette: by the greys that are shown if these differ, by the colours if
    black is not index 0, else by the indices."""
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    shown = palette[used]
    if _is_grey(shown) and len(np.unique(shown[:, 0])) == len(used):
        return mark_tumour(path, palette[:, 0][indices], rule)
    has_black = bool((used[~shown.any(axis=1)] > 0).any())
    if has_black and palette[0].any():
        return mark_still(path, StoredImage(palette[indices]), rule)
    if rule.threshold is not None:
        raise BadCase(
            f"{path.name}: the mask has {len(used)} colours of a palette, which are labels without a scale; "
            "expected none with --mask-threshold; leave it out, or save the mask in grey"
        )
    codes = palette.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    named: dict[str, list[int]] = {}
    for label in rule.labels:
        if (number := colour_number(label)) is not None:
            named[label] = [int(index) for index in used if codes[index] == number]
        elif label.isdecimal():
            named[label] = [int(label)]
    marked = _mark(path, indices, rule, named)
    if rule.labels or len(np.unique(codes[used])) < len(used):
        return marked
    # Programs number the colours of each file anew, so that the same index may be another label elsewhere.
    return replace(marked, labels=frozenset(colour_name(int(codes[int(label)])) for label in marked.labels))


def _mark(
    path: Path,
    values: NDArray[Any],
    rule: MaskRule,
    named: dict[str, list[int]],
    find: Callable[[NDArray[Any], TumourRule], tuple[Flags, frozenset[int]]] = find_tumour,
) -> Marked:
    """Mark tumour by `find`; `named` has the numbers of the rule's labels."""
    if rule.labels and not named:
        raise BadCase(
            f"{path.name}: the labels of the mask are numbers, expected those of tumour; "
            f"{_quote(rule.labels)} names no number; correct --labels or the column labels"
        )
    numbers = tuple(number for listed in named.values() for number in listed)
    # A colour that the palette does not have leaves no number, but labels were chosen: -1 is in no mask.
    chosen = TumourRule(numbers or ((-1,) if rule.labels else ()), rule.threshold, rule.has_choice)
    try:
        tumour, present = find(values, chosen)
    except SeveralLabels as error:
        raise UnchosenLabels(f"{path.name}: {error}") from error
    except ValueError as error:
        raise BadCase(f"{path.name}: {error}") from error
    if not rule.labels:
        name = colour_name if find is find_coloured_tumour else str
        return Marked(tumour, frozenset(name(label) for label in present))
    found = frozenset(label for label, listed in named.items() if present.intersection(listed))
    return Marked(tumour, found, () if found or not values.any() else (NONE_CHOSEN,))


def _is_grey(colours: Pixels) -> bool:
    """Return whether red, green and blue are equal everywhere; the last axis is the colour."""
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    return bool((red == green).all() and (green == blue).all())


def _grey_of(label: str) -> int | None:
    """Return the number of a label in a mask of numbers; None if the label is a name.

    A grey such as #ffffff is its brightness, and another colour a number that no mask has.
    """
    if label.isdecimal():
        return int(label)
    number = colour_number(label)
    if number is None:
        return None
    red, green, blue = number >> 16, number >> 8 & 255, number & 255
    return red if red == green == blue else -1


def _quote(labels: Sequence[str]) -> str:
    return ", ".join(repr(label) for label in labels)
