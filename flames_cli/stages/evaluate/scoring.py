"""Scores of one model on one test set, image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.arrays import Mask
from flames_cli.core.imaging.geometry import pixel_after_square
from flames_cli.core.scores.detection import match_lesions
from flames_cli.core.scores.metrics import count_pixels, hausdorff_px
from flames_cli.learn.surfaces import SurfaceDistances, surface_distances
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.store.cases import CaseInfo
from flames_cli.store.evaluations import CaseScore


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Run of a model: the first columns of its scores."""

    run: str
    seed: int
    fold: int | None = None


def score_cases(
    run: RunFacts, model: ModelUnderTest, tests: HeldOutCases, predicted: Sequence[Mask]
) -> list[CaseScore]:
    """Return the scores of every image of the test set, from its predicted masks in the same order."""
    return [_score_case(run, model, tests, index, mask) for index, mask in enumerate(predicted)]


def _score_case(
    run: RunFacts, model: ModelUnderTest, tests: HeldOutCases, index: int, predicted: Mask
) -> CaseScore:
    data = tests.data
    case, truth = data.case(index), data.mask(index)
    counts = count_pixels(predicted, truth)
    return CaseScore(
        **_facts(run, model, tests, index),
        case=case.case,
        volume="",
        selected=True,
        lesion=data.lesion(index),
        tp=counts.true_positive,
        fp=counts.false_positive,
        fn=counts.false_negative,
        tn=counts.true_negative,
        iou=counts.iou(),
        dice=counts.dice(),
        pixel_accuracy=counts.pixel_accuracy(),
        majority_accuracy=counts.majority_accuracy(),
        **_distances(predicted, truth, case),
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
    }


def _distances(predicted: Mask, truth: Mask, case: CaseInfo) -> dict[str, Any]:
    """Return the distances of a selected image, and its lesions."""
    size = len(truth)
    found = match_lesions(predicted, truth)
    in_px, in_mm = (
        _surfaces(predicted, truth, pixel_after_square(spacing, case.raw_shape, size))
        for spacing in ((1.0, 1.0), case.spacing_mm)
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
