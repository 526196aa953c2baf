"""Predictions of one model on one test set: masks, calibration, lesions at several thresholds, and the counts
that show what each option changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from flames_cli.arrays import Mask, Weights
from flames_cli.core.scores.calibration import EMPTY, Reliability
from flames_cli.core.scores.detection import MIN_IOU, LesionMatches
from flames_cli.core.scores.froc import THRESHOLDS
from flames_cli.core.scores.metrics import Counts, count_pixels
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.predict import THRESHOLD, MaskRule
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.evaluate.choices import clean_masks
from flames_cli.stages.evaluate.measuring import PredictedImage, judge_probabilities
from flames_cli.stages.parallel import ordered_map


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions for all images of a test set, in its order."""

    masks: Sequence[Mask]
    """Masks by the rule, H×W of 0 and 1."""
    reliability: Reliability
    """Bins of the pixels of all images."""
    lesions: Mapping[float, LesionMatches]
    """Sums over the selected images, by threshold. They are of the probabilities, so no part of a mask is
    removed."""
    before: Mapping[str, Sequence[Counts]] = field(default_factory=dict)
    """Counts of each image before an option takes effect, by the option; the options before it are on."""


def predict(
    segmenter: Segmenter,
    weights: Weights,
    data: ShardDataset,
    rule: MaskRule,
    options: Sequence[str] = (),
    min_iou: float = MIN_IOU,
) -> Predicted:
    """Predict the masks of all images of `data` by `rule`.

    Args:
        segmenter: the architecture of the model.
        weights: the model.
        data: the test set.
        rule: how probabilities become masks.
        options: names of the options that are on (`MaskOptions.names`); each gets an entry in `before`, also
            if validation chose what is the default.
        min_iou: that of `match_lesions`.
    """
    before: dict[str, list[Counts]] = {}
    if "tta" in options:
        before["tta"] = _count(data, list(segmenter.masks(weights, data)))
    reliability, lesions = EMPTY, dict.fromkeys(THRESHOLDS, LesionMatches())
    plain: list[Counts] = []
    masks: list[Mask] = []

    def images() -> Iterator[PredictedImage]:
        for index, probabilities in enumerate(segmenter.probabilities(weights, data, tta=rule.tta)):
            truth = data.mask(index)
            masks.append((probabilities > rule.threshold).astype("uint8"))
            if "threshold" in options:
                plain.append(count_pixels(probabilities > THRESHOLD, truth))
            yield PredictedImage(probabilities, truth, data.case(index).selected)

    for calibrated, found in ordered_map(partial(judge_probabilities, min_iou), images(), total=len(data)):
        reliability = reliability + calibrated
        if found is not None:
            lesions = {threshold: lesions[threshold] + found[threshold] for threshold in lesions}
    if "threshold" in options:
        before["threshold"] = plain
    if "postprocess" in options:
        before["postprocess"] = _count(data, masks)
    return Predicted(clean_masks(data, masks) if rule.largest_only else masks, reliability, lesions, before)


def predict_plainly(
    segmenter: Segmenter, weights: Weights, data: ShardDataset, rule: MaskRule
) -> Sequence[Mask]:
    """Return the masks of all images of `data` by `rule`, and nothing else."""
    masks = list(segmenter.masks(weights, data, rule=replace(rule, largest_only=False)))
    return clean_masks(data, masks) if rule.largest_only else masks


def _count(data: ShardDataset, masks: Sequence[Mask]) -> list[Counts]:
    return [count_pixels(mask, data.mask(index)) for index, mask in enumerate(masks)]
