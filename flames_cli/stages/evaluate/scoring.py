"""Scores of one model on one test set, image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.scores.metrics import count_pixels, hausdorff_px
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
    return {
        "hausdorff_px": hausdorff_px(predicted, truth),
        "hd95_px": None,
        "hd95_mm": None,
        "assd_px": None,
        "assd_mm": None,
        "diagonal_px": math.hypot(*case.raw_shape) if all(case.raw_shape) else None,
        "diagonal_mm": _diagonal_mm(case),
        "lesions": None,
        "lesions_predicted": None,
        "lesions_matched": None,
    }


def _diagonal_mm(case: CaseInfo) -> float | None:
    """Return the diagonal of the source image in mm; None if its spacing is unknown."""
    sides = np.array(case.raw_shape) * np.array(case.spacing_mm)
    return float(np.hypot(*sides)) if np.isfinite(sides).all() and (sides > 0).all() else None
