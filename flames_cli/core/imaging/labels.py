"""Tumour of a mask, decided by the values of its file: one rule for all formats and data sets.

A mask contains a few whole labels. The only label above 0 is tumour; of several, those that the user chose. A
mask with other values is soft: it was saved as JPEG, resampled with interpolation, or contains probabilities.
A soft mask is rejected, unless the user gives a threshold.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.intensity import count_values
from flames_cli.core.imaging.label_names import colour_name, option_text

Threshold = float | Literal["half"] | None
"""Smallest value that is tumour; half: half of full scale; None: the mask has labels."""

Flags = NDArray[np.bool_]

WHOLE = 1e-3
"""Largest distance of a label from a whole number: files of floats are rounded."""

MAX_LABELS = 16
"""Largest number of distinct values of a mask, with 0, if no label was chosen."""

MAX_BYTE = 255
"""Largest number of distinct values, and their upper limit, if labels were chosen: a map of all organs has
about a hundred."""

NOISE = 16
"""Width of the noise that JPEG makes around the smallest and around the largest value."""

OVERSHOOT = 1.6
"""Largest value of a mask of floats relative to its full scale: a cubic resampling exceeds both ends."""

SCALES = (1, 255, 65535)
"""Full scales of masks."""


class SoftMask(ValueError):
    """A mask that has no labels: its values are many, or not whole."""


class SeveralLabels(ValueError):
    """A mask with several labels, of which the user has chosen none."""


@dataclass(frozen=True, slots=True)
class TumourRule:
    """The values of a mask that are tumour."""

    labels: tuple[int, ...] = ()
    """Labels that are tumour; empty: the only label above 0."""
    threshold: Threshold = None
    """Threshold of a soft mask, which replaces labels."""
    has_choice: bool = True
    """True if the user can choose labels; it changes only the advice of errors."""


def find_tumour(values: NDArray[Any], rule: TumourRule) -> tuple[Flags, frozenset[int]]:
    """Return where a mask is tumour, and its labels that are tumour.

    Args:
        values: H×W or X×Y×Z numbers of any type, as stored in the file.
        rule: labels or threshold.

    Returns:
        Flags with the shape and memory order of `values`, and those labels of the rule that exist in
        `values`; if the rule has none, the only label above 0; none for a threshold.

    Raises:
        SeveralLabels: the mask has several labels, and the user can choose some but has not.
        ValueError: the mask is soft, has values below 0, or has several labels without a choice; or the
            threshold does not suit its values.
    """
    if rule.threshold is not None:
        if rule.threshold == "half" and rule.has_choice:
            _require_above_noise(values)
        return _above(values, rule.threshold), frozenset()
    try:
        counts = count_labels(values)
    except SoftMask as error:
        raise SoftMask(f"{error}; {SOFT_ADVICE}") from error
    except ValueError as error:
        raise ValueError(f"{error}; save it as unsigned integers") from error
    _require_few(values, counts, rule)
    return _choose(values, counts, rule, str)


def find_coloured_tumour(pixels: NDArray[np.uint8], rule: TumourRule) -> tuple[Flags, frozenset[int]]:
    """Return where a mask in colours (H×W×3) is tumour; every colour except black is a label.

    The labels of the rule are colours as numbers (see `colour_number`). A threshold applies to the brightest
    of the three channels, since the luma of pure red (76) or blue (29) is below half of full scale.

    Raises:
        ValueError: as `find_tumour`; a mask is also soft if two of its colours are nearly equal.
    """
    if rule.threshold is not None:
        return find_tumour(pixels.max(axis=2), rule)
    numbers = (pixels.astype(np.int32) * np.array([1 << 16, 1 << 8, 1], np.int32)).sum(axis=2, dtype=np.int32)
    counts = count_labels(numbers)
    if len(counts) > MAX_LABELS or _any_close(list(counts)):
        few = _few([colour_name(number) for number in counts])
        raise SoftMask(
            f"the mask is soft: it has {len(counts):,} colours, such as {few}; expected a few plain colours; "
            f"{SOFT_ADVICE}"
        )
    return _choose(numbers, counts, rule, colour_name)


SOFT_ADVICE = (
    "export it without interpolation and not as JPEG, or pass --mask-threshold HALF, for which half of full "
    "scale and more is tumour"
)


def count_labels(values: NDArray[Any]) -> dict[int, int]:
    """Return the labels of a mask in ascending order, 0 included, and the number of pixels or voxels of each.

    Raises:
        SoftMask: a value is not whole.
        ValueError: a value is below 0. The texts say what was found and expected.
    """
    distinct, counts = _count(values)
    whole = np.rint(distinct) if distinct.dtype.kind == "f" else distinct
    uneven = distinct[~_is_whole(distinct)]
    if not uneven.size and distinct[0] < -WHOLE:
        raise ValueError(
            f"the mask has values below 0, down to {distinct[0]:g}; expected labels of 0 and above (saved as "
            "int8, 255 becomes -1)"
        )
    if uneven.size or (distinct[-1] > 0 and whole[-1] == 0):
        examples = uneven if uneven.size else distinct[-1:]
        raise SoftMask(
            f"the mask is soft: its values go from {distinct[0]:g} to {distinct[-1]:g} and are not whole, "
            f"such as {_few([f'{value:g}' for value in examples])}; expected a few whole labels"
        )
    labels: dict[int, int] = {}
    for label, count in zip(whole.tolist(), counts.tolist(), strict=True):
        labels[int(label)] = labels.get(int(label), 0) + count
    return labels


def _count(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values, ascending, and their numbers; for floats that are not whole only some.

    Most of a mask is 0, so that only the rest is sorted.
    """
    if values.dtype == bool:
        values = values.view(np.uint8)
    if values.dtype == np.uint8 and values.max() == 1:  # several times faster than counting all values
        ones = np.count_nonzero(values)
        first = 0 if ones < values.size else 1
        return np.array([0, 1])[first:], np.array([values.size - ones, ones])[first:]
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.dtype != np.int8:
        return count_values(values)
    flat = values.ravel(order="K")
    marked = flat[flat != 0]
    is_whole = _is_whole(marked)
    if not is_whole.all():
        # The numbers of a soft mask are of no use, and a sort of all its values would take minutes.
        some = marked[:: max(1, marked.size // 1000)]
        ends = [np.nanmin(flat), np.nanmax(flat)]
        uneven = marked[~is_whole][:1]
        distinct = np.unique(np.concatenate([some, ends, uneven]))
        return distinct, np.ones(distinct.size, np.int64)
    distinct, counts = np.unique(marked, return_counts=True)
    zeros = flat.size - marked.size
    if zeros:
        place = int(np.searchsorted(distinct, 0))
        distinct, counts = np.insert(distinct, place, 0), np.insert(counts, place, zeros)
    return distinct, counts.astype(np.int64)


def _is_whole(values: NDArray[Any]) -> Flags:
    if values.dtype.kind != "f":
        return np.ones(values.shape, bool)
    with np.errstate(invalid="ignore"):  # infinity is not whole
        apart = np.abs(values - np.rint(values))
    return np.asarray(apart <= WHOLE * (1 + WHOLE))  # 1.001 - 1 is more than 0.001


def _require_few(values: NDArray[Any], counts: Mapping[int, int], rule: TumourRule) -> None:
    """Raise ValueError if whole values are too many for labels, or are noise of JPEG around two levels."""
    labels = list(counts)
    limit = MAX_BYTE if rule.labels and labels[-1] < MAX_BYTE else MAX_LABELS
    is_map = len(labels) <= MAX_LABELS or (len(labels) <= limit and not _is_scattered(values, counts))
    if is_map and not _is_noise(labels):
        return
    found = f"the mask is soft: it has {len(labels)} values from {labels[0]} to {labels[-1]}, {_few(labels)}"
    advice = SOFT_ADVICE
    if rule.has_choice and not rule.labels and labels[-1] < MAX_BYTE:
        advice += "; if they are labels, name those of tumour with --labels"
    raise SoftMask(f"{found}; expected at most {limit} labels, such as 0 and 255; {advice}")


def _is_noise(labels: Sequence[int]) -> bool:
    """Return whether the values (ascending) lie around a dark and a bright level, as JPEG leaves them."""
    lowest, top = labels[0], labels[-1]
    return (
        len(labels) > 1
        and MAX_BYTE // 2 <= top <= MAX_BYTE
        and labels[-2] > top - NOISE
        and all(label < lowest + NOISE or label > top - NOISE for label in labels)
    )


def _is_scattered(values: NDArray[Any], counts: Mapping[int, int]) -> bool:
    """Return whether most labels have few neighbours of the same label, as levels of noise and of soft edges
    have; organs are coherent."""
    same = values[1:][values[1:] == values[:-1]]
    pairs = dict(zip(*(part.tolist() for part in _count(same)), strict=True)) if same.size else {}
    above = [label for label in counts if label > 0]
    scattered = [label for label in above if pairs.get(label, 0) < counts[label] / 2]
    return len(scattered) > len(above) / 2


def are_levels_noisy(values: NDArray[Any]) -> bool:
    """Return whether values are less than NOISE apart, so that no label of a JPEG is exact."""
    return bool((np.diff(_count(values)[0]) < NOISE).any())


def _any_close(colours: Sequence[int]) -> bool:
    """Return whether two bright colours differ by less than NOISE in every channel."""
    channels = np.array([[number >> 16, number >> 8 & 255, number & 255] for number in colours])
    apart = np.abs(channels[:, None] - channels[None]).max(axis=2)
    bright = channels.max(axis=1) > MAX_BYTE // 2
    return bool(((apart < NOISE) & bright[:, None] & ~np.eye(len(colours), dtype=bool)).any())


def _choose(
    values: NDArray[Any], counts: Mapping[int, int], rule: TumourRule, name: Callable[[int], str]
) -> tuple[Flags, frozenset[int]]:
    """Return where `values` has one of the chosen labels, or its only label."""
    if rule.labels:
        found = frozenset(rule.labels) & counts.keys()
        return _with_labels(values, found, counts), found
    above = [label for label in counts if label > 0]
    if len(above) > 1:
        raise (SeveralLabels if rule.has_choice else ValueError)(_several(counts, above, rule, name))
    return _any_label(values, counts), frozenset(above)


def _any_label(values: NDArray[Any], counts: Mapping[int, int]) -> Flags:
    if values.dtype == np.uint8 and counts.keys() <= {0, 1}:
        return values.view(np.bool_)
    # A comparison of integers with a fraction would convert them all.
    return np.asarray(values > (0.5 if values.dtype.kind == "f" else 0))


def _with_labels(values: NDArray[Any], labels: Collection[int], counts: Mapping[int, int]) -> Flags:
    if labels and {label for label in counts if label > 0} <= {*labels}:
        return _any_label(values, counts)
    flags = np.zeros_like(values, bool)
    for label in labels:
        flags |= values == label if values.dtype.kind in "iu" else np.abs(values - label) < 0.5
    return flags


def _several(
    counts: Mapping[int, int], above: Iterable[int], rule: TumourRule, name: Callable[[int], str]
) -> str:
    total = sum(counts.values())
    areas = [f"{name(label)} ({counts[label]:,} px, {counts[label] / total:.1%})" for label in above]
    text = f"the mask has {len(areas)} labels, {_few(areas, 8)}; expected one, or those of tumour chosen"
    if not rule.has_choice:
        return f"{text}; restore the file from the download"
    soft = "; if its edges are soft, pass --mask-threshold HALF" if max(counts) > MAX_BYTE // 2 else ""
    return f"{text}; name these with --labels, such as {option_text([name(_example(counts, above))])}{soft}"


def _example(counts: Mapping[int, int], above: Iterable[int]) -> int:
    """Return the label that a message gives as an example: the highest one that may be tumour.

    A label of most of the image is its background. 255 around larger areas of small labels means "ignore".
    """
    candidates = [label for label in above if counts[label] <= sum(counts.values()) / 2]
    classes = [label for label in candidates if label < NOISE]
    is_border = counts.get(MAX_BYTE, 0) < sum(counts[label] for label in classes)
    return max(classes if is_border and candidates[-1] == MAX_BYTE else candidates)


def _above(values: NDArray[Any], threshold: float | Literal["half"]) -> Flags:
    """Return where `values` reaches the threshold.

    Raises:
        ValueError: the threshold and the values are of different scales, so that nothing, or all that is not
            0, would be tumour.
    """
    top, lowest = float(values.max()), float(values.min())
    half = threshold == "half"
    limit = _full_scale(values, top) / 2 if threshold == "half" else float(threshold)
    given = f"HALF ({limit:g})" if half else f"{limit:g}"
    if not np.isfinite(top) or lowest < (1 - OVERSHOOT) * max(top, 1.0):
        raise ValueError(
            f"the mask has values from {lowest:g} to {top:g}; expected 0 and above for --mask-threshold "
            f"{given}; export it as probabilities or labels"
        )
    if limit < 1 < top / OVERSHOOT:
        raise ValueError(
            f"the mask's largest value is {top:g}, and --mask-threshold {given} would make every value of 1 "
            "and more tumour; expected a value on the scale of the file; pass HALF or such a value"
        )
    flags = np.asarray(values >= limit)
    if top > 0 and not flags.any():
        raise ValueError(
            f"the mask's largest value is {top:g}, below --mask-threshold {given}; expected tumour, or zeros "
            "only; pass a threshold on the scale of the file, or leave it out for a mask of labels"
        )
    return flags


def _require_above_noise(values: NDArray[Any]) -> None:
    """Raise ValueError if half of full scale would cut through the noise around the level of tumour.

    Such masks are JPEG files of dark colours, such as those of VOC, whose brightest channel is 128.
    """
    top = int(values.max()) if values.dtype == np.uint8 else 0
    half = MAX_BYTE / 2
    if half <= top < half + NOISE and ((values > half - NOISE) & (values < half)).any():
        raise ValueError(
            f"the mask's largest value is {top}, hardly above --mask-threshold HALF, which would cut through "
            f"noise around that value; expected 255 or so; pass --mask-threshold {top // 2} if it is tumour"
        )


def _full_scale(values: NDArray[Any], top: float) -> int:
    """Return the full scale of a mask whose largest value is `top`.

    Integers of 8 bits have 255, and wider ones 65535 unless their largest value is 255 itself: a faint map,
    of a healthy patient, must not be taken for one of a smaller scale.
    """
    if values.dtype.kind == "b":
        return 1
    if values.dtype.kind in "iu":
        return 255 if values.dtype.itemsize == 1 or top == MAX_BYTE else 65535
    return next((scale for scale in SCALES if top <= scale * OVERSHOOT), SCALES[-1])


def _few(values: Sequence[Any], most: int = 6) -> str:
    listed = [str(value) for value in values]
    if len(listed) <= most:
        return ", ".join(listed)
    half = most // 2
    return f"{', '.join(listed[:half])}, … {', '.join(listed[-half:])}"
