"""Scores of one model on one test set, image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.imaging.geometry import pixel_after_square
from flames_cli.core.scores.detection import MIN_IOU, match_lesions
from flames_cli.core.scores.metrics import Counts, count_pixels, hausdorff_px, sum_counts
from flames_cli.core.scores.surfaces import SurfaceDistances, surface_dice, surface_distances
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.store.cases import CaseInfo
from flames_cli.store.evaluations import CaseScore, VolumeScore
from flames_cli.store.volumes import StoredVolume

TOLERANCE_MM = 2.0
"""Tolerance of the normalised surface Dice."""
DISTANCES = (
    *("hausdorff_px", "hd95_px", "hd95_mm", "assd_px", "assd_mm", "diagonal_px", "diagonal_mm"),
    *("lesions", "lesions_predicted", "lesions_matched"),
)
"""Columns that are empty for slices that are not selected."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Run of a model: the first columns of its scores."""

    run: str
    seed: int
    fold: int | None = None


def score_cases(
    run: RunFacts,
    model: ModelUnderTest,
    tests: HeldOutCases,
    predicted: Sequence[Mask],
    min_iou: float = MIN_IOU,
) -> list[CaseScore]:
    """Return the scores of every image of the test set, from its predicted masks in the same order; `min_iou`
    is that of `match_lesions`."""
    return [_score_case(run, model, tests, index, mask, min_iou) for index, mask in enumerate(predicted)]


def _score_case(
    run: RunFacts, model: ModelUnderTest, tests: HeldOutCases, index: int, predicted: Mask, min_iou: float
) -> CaseScore:
    data = tests.data
    case, truth = data.case(index), data.mask(index)
    counts = count_pixels(predicted, truth)
    return CaseScore(
        **_facts(run, model, tests, index),
        case=case.case,
        volume=case.volume,
        selected=case.selected,
        lesion=data.lesion(index),
        tp=counts.true_positive,
        fp=counts.false_positive,
        fn=counts.false_negative,
        tn=counts.true_negative,
        iou=counts.iou(),
        dice=counts.dice(),
        pixel_accuracy=counts.pixel_accuracy(),
        majority_accuracy=counts.majority_accuracy(),
        **(_distances(predicted, truth, case, min_iou) if case.selected else dict.fromkeys(DISTANCES)),
    )


def _facts(run: RunFacts, model: ModelUnderTest, tests: HeldOutCases, index: int) -> dict[str, Any]:
    """Return the columns that an image and its volume share."""
    data = tests.data
    case, dataset = data.case(index), data.dataset(index)
    return {
        "run": run.run,
        "seed": run.seed,
        "fold": run.fold,
        "split": model.split,
        "model": model.label,
        "modality": model.modality,
        "dataset": dataset,
        "collection": tests.collections.get(dataset, ""),
        "organ": data.organ(index),
        "site": case.site,
        "unseen_site": model.unseen,
        "patient": case.split_unit,
        "extra": case.extra,
    }


def _distances(predicted: Mask, truth: Mask, case: CaseInfo, min_iou: float) -> dict[str, Any]:
    """Return the distances of a selected image, and its lesions."""
    size = len(truth)
    found = match_lesions(predicted, truth, min_iou)
    in_px = _surfaces(predicted, truth, pixel_after_square((1.0, 1.0), case.raw_shape, size))
    row_mm, column_mm = case.spacing_mm
    in_mm = (
        in_px.scaled(row_mm)
        if in_px and row_mm == column_mm > 0
        else _surfaces(predicted, truth, pixel_after_square(case.spacing_mm, case.raw_shape, size))
    )
    sides = [pixels * mm for pixels, mm in zip(case.raw_shape, case.spacing_mm, strict=True)]
    return {
        "hausdorff_px": hausdorff_px(predicted, truth),
        "hd95_px": in_px and in_px.hd95,
        "hd95_mm": in_mm and in_mm.hd95,
        "assd_px": in_px and in_px.assd,
        "assd_mm": in_mm and in_mm.assd,
        "diagonal_px": math.hypot(*case.raw_shape) if in_px else None,
        "diagonal_mm": math.hypot(*sides) if in_mm else None,
        "lesions": found.lesions,
        "lesions_predicted": found.predicted,
        "lesions_matched": found.matched,
    }


def _surfaces(predicted: Mask, truth: Mask, spacing: tuple[float, float]) -> SurfaceDistances | None:
    """Return the distances with pixels of that size; None if the size is unknown."""
    return surface_distances(predicted, truth, spacing) if math.isfinite(sum(spacing)) else None


def score_volumes(
    run: RunFacts,
    model: ModelUnderTest,
    tests: HeldOutCases,
    predicted: Sequence[Mask],
    min_iou: float = MIN_IOU,
) -> list[VolumeScore]:
    """Return the scores of every complete volume of the test set, from the predicted masks of all images.

    Masks are compared as they are stored, as squares: their padding contains no tumour, and their pixels have
    the size in mm that the resizing gives them. `min_iou` is that of `match_lesions`.
    """
    return [_score_volume(run, model, tests, volume, predicted, min_iou) for volume in tests.data.volumes]


def _score_volume(
    run: RunFacts,
    model: ModelUnderTest,
    tests: HeldOutCases,
    volume: StoredVolume,
    predicted: Sequence[Mask],
    min_iou: float,
) -> VolumeScore:
    stack = np.stack([predicted[index] for index in volume.indices])
    truth = np.stack([tests.data.mask(index) for index in volume.indices])
    counts = sum_counts(count_pixels(*pair) for pair in zip(stack, truth, strict=True))
    found = match_lesions(stack, truth, min_iou)
    return VolumeScore(
        **_facts(run, model, tests, volume.indices[0]),
        volume=volume.name,
        slices=len(stack),
        tp=counts.true_positive,
        fp=counts.false_positive,
        fn=counts.false_negative,
        tn=counts.true_negative,
        dice=counts.dice(),
        sensitivity=_known(counts.sensitivity()),
        precision=_known(counts.precision()),
        **_in_mm(stack, truth, counts, volume),
        lesions=found.lesions,
        lesions_predicted=found.predicted,
        lesions_matched=found.matched,
    )


def _in_mm(stack: Mask, truth: Mask, counts: Counts, volume: StoredVolume) -> dict[str, Any]:
    """Return the columns in mm and ml; None if the spacing is unknown."""
    voxel = volume.voxel_mm(stack.shape[-1])
    if not math.isfinite(sum(voxel)):
        names = ("volume_ml", "predicted_ml", "volume_error_ml", "hd95_mm", "assd_mm", "nsd_2mm")
        return dict.fromkeys((*names, "diagonal_mm"))
    voxel_mm3 = math.prod(voxel)
    distances = surface_distances(stack, truth, voxel)
    rows, columns = (n * mm for n, mm in zip(volume.raw_shape, volume.spacing_mm, strict=True))
    return {
        "volume_ml": counts.volume_ml(voxel_mm3),
        "predicted_ml": counts.predicted_ml(voxel_mm3),
        "volume_error_ml": counts.volume_error_ml(voxel_mm3),
        "hd95_mm": distances.hd95,
        "assd_mm": distances.assd,
        "nsd_2mm": surface_dice(stack, truth, voxel, TOLERANCE_MM),
        "diagonal_mm": math.hypot(len(stack) * voxel[0], rows, columns),
    }


def _known(value: float) -> float | None:
    """Return `value`, or None for NaN: a ratio of nothing."""
    return None if math.isnan(value) else value
