"""Probabilities of the models → a mask in the geometry of the source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask
from flames_cli.core.imaging.components import largest_component
from flames_cli.core.imaging.diameters import box_of
from flames_cli.core.imaging.geometry import map_from_square
from flames_cli.core.imaging.volumes import restore_volume
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.use import Predictor, mean_probabilities
from flames_cli.stages.predict.preparing import ModelPreparation, Prepared

AT_ONCE = 64
"""Number of images whose probabilities are in memory together."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an ensemble, or the only one."""

    predictor: Predictor
    preparation: int
    """Index of its preparation among those of all models."""


@dataclass(frozen=True, slots=True)
class SourceMask:
    """Mask that the models found in one input, in the geometry of its source."""

    stack: Mask
    """N×H×W of 0 and 1: the slices of a volume in order, or the only image."""
    mean_probability: float | None
    """Mean probability inside the mask; None if it is empty."""
    max_probability: float
    """Largest probability of the image, also outside the mask."""
    probabilities: NDArray[np.float32] | None
    """N×H×W; None unless the user wants them."""


@dataclass(frozen=True, slots=True)
class Predicting:
    """Models, and the rule that makes masks of their probabilities."""

    members: tuple[Member, ...]
    preparations: tuple[ModelPreparation, ...]
    rule: MaskRule
    with_probabilities: bool = False
    """True to keep the probabilities of all pixels in memory."""

    def predict(self, group: Sequence[Prepared]) -> list[SourceMask]:
        """Return what the models find in several inputs, which share the steps of the models."""
        found = [_Collected(one, self) for one in group]
        images = [(number, index) for number, one in enumerate(group) for index in range(one.n)]
        for start in range(0, len(images), AT_ONCE):
            part = images[start : start + AT_ONCE]
            by_size = [self._maps(member, group, part) for member in self.members]
            for place, (number, index) in enumerate(part):
                found[number].add(index, [maps[place] for maps in by_size])
        return [one.finish() for one in found]

    def _maps(
        self, member: Member, group: Sequence[Prepared], part: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return the probabilities of one model for some images, given by input and index.

        Images that are black, as the outermost slices of many volumes are, have one result: it is computed
        once.
        """
        images = np.concatenate(
            [group[number].squares[member.preparation].part(index, index + 1) for number, index in part]
        )
        is_black = ~images.any(axis=tuple(range(1, images.ndim)))
        first_black = int(is_black.argmax())
        computed = np.flatnonzero(~is_black | (np.arange(len(images)) == first_black))
        found = member.predictor.probabilities(images[computed], self.rule.tta)
        place = np.searchsorted(computed, np.where(is_black, first_black, np.arange(len(images))))
        return found[place]


class _Collected:
    """The mask of one input while its slices are predicted."""

    def __init__(self, prepared: Prepared, predicting: Predicting) -> None:
        self._prepared, self._predicting = prepared, predicting
        shape = (prepared.n, *prepared.shape)
        self._stack = np.zeros(shape, np.uint8)
        self._inside: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * prepared.n
        self._max = 0.0
        self._kept = np.empty(shape, np.float32) if predicting.with_probabilities else None

    def add(self, index: int, squares: Sequence[NDArray[np.float32]]) -> None:
        """Add the maps of one image, S×S by each model."""
        made = self._predicting
        hows = (made.preparations[member.preparation] for member in made.members)
        values = mean_probabilities(
            [
                map_from_square(square, *self._prepared.shape, how.mask_resize)
                for square, how in zip(squares, hows, strict=True)
            ]
        )
        inside = values > made.rule.threshold
        self._stack[index] = inside
        self._inside[index] = values[inside]
        self._max = max(self._max, float(values.max(initial=0)))
        if self._kept is not None:
            self._kept[index] = values

    def finish(self) -> SourceMask:
        """Return the mask, with its largest part only if the rule says so."""
        stack = self._stack
        if self._predicting.rule.largest_only:
            box = box_of(stack)
            cleaned = np.zeros_like(stack)
            # One image has neighbours in its own plane only, in both cases.
            cleaned[box] = largest_component(np.ascontiguousarray(stack[box])) if stack.any() else 0
            pairs = zip(self._inside, stack, cleaned, strict=True)
            kept = [values[after[before > 0] > 0] for values, before, after in pairs]
            stack, self._inside = cleaned, kept
        values = np.concatenate(self._inside)
        mean = float(values.mean(dtype=np.float64)) if values.size else None
        return SourceMask(stack, mean, self._max, self._kept)


def in_file_geometry(stack: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """Return N×H×W values of one input as its file has them: H×W of a still image, X×Y×Z of a volume."""
    if prepared.place is None:
        image: NDArray[Any] = stack[0]
        return image
    return restore_volume(dict(enumerate(stack)), prepared.place)
