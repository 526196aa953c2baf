"""Choices of how a model's probabilities become masks: by options of the user, or by validation patients.

Test patients choose nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flames_cli.arrays import Mask, Weights
from flames_cli.core.imaging.components import largest_component
from flames_cli.core.scores.detection import MIN_IOU
from flames_cli.core.scores.metrics import Counts, count_pixels, sum_counts
from flames_cli.core.scores.threshold import (
    CleanupChoice,
    ThresholdChoice,
    choose_cleanup,
    choose_threshold,
    dice_at_thresholds,
)
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.predict import THRESHOLD, MaskRule, Tta
from flames_cli.learn.segment import Segmenter
from flames_cli.learn.train_options import ENOUGH_PATIENTS
from flames_cli.stages.evaluate.measuring import Wanted
from flames_cli.stages.evaluate.models_under_test import HeldOutCases
from flames_cli.store.volumes import find_volumes


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """Options of `flames evaluate` that change the predicted masks, which are off by default, or what is
    measured of them."""

    threshold: float | Literal["auto"] = THRESHOLD
    tta: Tta = "none"
    postprocess: Literal["none", "auto"] = "none"
    lesion_iou: float = MIN_IOU
    """Smallest intersection over union of a lesion and the predicted part that finds it, in (0, 1]."""
    metrics: tuple[str, ...] = ()
    """Names of metrics of plug-ins."""

    @property
    def wanted(self) -> Wanted:
        """Measurements of each case."""
        return Wanted(self.lesion_iou, self.metrics)

    @property
    def need_validation(self) -> bool:
        """True if validation patients choose anything."""
        return "auto" in (self.threshold, self.postprocess)

    @property
    def names(self) -> list[str]:
        """Names of the options that are on, in the order in which they take effect."""
        on = {
            "tta": self.tta != "none",
            "threshold": self.threshold != THRESHOLD,
            "postprocess": self.postprocess != "none",
        }
        return [name for name, wanted in on.items() if wanted]


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """Rule for the masks of one model, and the validation that led to it."""

    rule: MaskRule
    threshold: ThresholdChoice | None = None
    """None: validation was not asked."""
    cleanup: CleanupChoice | None = None
    """None: validation was not asked."""


def choose_masks(
    options: MaskOptions, segmenter: Segmenter, weights: Weights, validation: Sequence[HeldOutCases]
) -> MaskChoice:
    """Return the rule for the masks of one model.

    The threshold is chosen on the probabilities with flips, if `tta` asks for them, and the post-processing
    on the masks at the chosen threshold.

    Args:
        options: what the user asked for.
        segmenter: the architecture of the model.
        weights: the model.
        validation: validation sets of the clients whose patients may choose; not read unless an option is
            `auto`.
    """
    threshold, chosen, cleanup = options.threshold, None, None
    if threshold == "auto":
        chosen = _choose_threshold(options.tta, segmenter, weights, validation)
        threshold = chosen.threshold
    rule = MaskRule(threshold, options.tta)
    if options.postprocess == "auto":
        cleanup = _choose_cleanup(rule, segmenter, weights, validation)
        rule = MaskRule(threshold, options.tta, cleanup.largest_only)
    return MaskChoice(rule, chosen, cleanup)


def clean_masks(data: ShardDataset, masks: Sequence[Mask]) -> list[Mask]:
    """Return the masks of all images of `data` with the largest connected part of each volume or still image
    only."""
    cleaned = list(masks)
    for indices in list_stacks(data):
        for index, mask in zip(indices, _clean([masks[index] for index in indices]), strict=True):
            cleaned[index] = mask
    return cleaned


def list_stacks(data: ShardDataset) -> list[tuple[int, ...]]:
    """Return the images of `data` that belong together: the slices of each volume that are there, in order,
    and each still image alone."""
    stills = [(index,) for index in range(len(data)) if not data.case(index).place]
    cases = ((data.dataset(index), data.case(index)) for index in range(len(data)))
    return [*stills, *(volume.indices for volume in find_volumes(cases))]


def _choose_threshold(
    tta: Tta, segmenter: Segmenter, weights: Weights, validation: Sequence[HeldOutCases]
) -> ThresholdChoice:
    rows, people = [], []
    for cases in validation:
        data = cases.data
        for index, probabilities in enumerate(segmenter.probabilities(weights, data, tta=tta)):
            rows.append(dice_at_thresholds(probabilities, data.mask(index)))
            people.append(cases.person(index))
    return choose_threshold(rows, people, ENOUGH_PATIENTS)


def _choose_cleanup(
    rule: MaskRule, segmenter: Segmenter, weights: Weights, validation: Sequence[HeldOutCases]
) -> CleanupChoice:
    """Compare masks of volumes and still images with and without their smaller parts. Validation sets contain
    only the selected slices of a volume."""
    plain, cleaned, people = [], [], []
    for cases in validation:
        masks = list(segmenter.masks(weights, cases.data, rule=rule))
        for before, after, indices in _compare(cases.data, masks):
            plain.append(before.dice())
            cleaned.append(after.dice())
            people.append(cases.person(indices[0]))
    return choose_cleanup(plain, cleaned, people, ENOUGH_PATIENTS)


def _compare(data: ShardDataset, masks: Sequence[Mask]) -> Iterator[tuple[Counts, Counts, tuple[int, ...]]]:
    for indices in list_stacks(data):
        before = [masks[index] for index in indices]
        truth = [data.mask(index) for index in indices]
        yield _count(before, truth), _count(_clean(before), truth), indices


def _clean(masks: Sequence[Mask]) -> list[Mask]:
    if len(masks) == 1:
        return [largest_component(masks[0])]
    return list(largest_component(np.stack(masks)))


def _count(masks: Sequence[Mask], truth: Sequence[Mask]) -> Counts:
    return sum_counts(count_pixels(*pair) for pair in zip(masks, truth, strict=True))
