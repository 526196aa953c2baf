"""Scores of one model on one test set, image by image and volume by volume."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.scores.metrics import count_pixels
from flames_cli.stages.evaluate.measuring import (
    ALWAYS,
    MaskPair,
    StackPair,
    Wanted,
    measure_image,
    measure_volume,
)
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.stages.parallel import ordered_map
from flames_cli.store.evaluations import CaseScore, VolumeScore
from flames_cli.store.volumes import StoredVolume

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
    wanted: Wanted = ALWAYS,
) -> list[CaseScore]:
    """Return the scores of every image of the test set, from its predicted masks in the same order.

    Raises:
        FlamesError: as `measure_image`.
    """
    data = tests.data
    selected = [index for index in range(len(predicted)) if data.case(index).selected]
    pairs = [_pair(tests, index, predicted[index]) for index in selected]
    measured = dict(zip(selected, ordered_map(partial(measure_image, wanted), pairs), strict=True))
    nothing = {**dict.fromkeys(DISTANCES), "metrics": dict.fromkeys(wanted.metrics)}
    return [
        _score_case(run, model, tests, index, mask, measured.get(index, nothing))
        for index, mask in enumerate(predicted)
    ]


def _pair(tests: HeldOutCases, index: int, predicted: Mask) -> MaskPair:
    case = tests.data.case(index)
    name = f"{tests.data.dataset(index)}/{case.case}"
    return MaskPair(predicted, tests.data.mask(index), case.raw_shape, case.spacing_mm, name)


def _score_case(
    run: RunFacts,
    model: ModelUnderTest,
    tests: HeldOutCases,
    index: int,
    predicted: Mask,
    measured: dict[str, Any],
) -> CaseScore:
    data = tests.data
    case = data.case(index)
    counts = count_pixels(predicted, data.mask(index))
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
        **measured,
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


def score_volumes(
    run: RunFacts,
    model: ModelUnderTest,
    tests: HeldOutCases,
    predicted: Sequence[Mask],
    wanted: Wanted = ALWAYS,
) -> list[VolumeScore]:
    """Return the scores of every complete volume of the test set, from the predicted masks of all images.

    Raises:
        FlamesError: as `measure_volume`.
    """
    volumes = tests.data.volumes
    stacks = (_stack(tests, volume, predicted) for volume in volumes)
    measured = ordered_map(partial(measure_volume, wanted), stacks, total=len(volumes))
    return [
        VolumeScore(**_facts(run, model, tests, volume.indices[0]), volume=volume.name, **figures)
        for volume, figures in zip(volumes, measured, strict=True)
    ]


def _stack(tests: HeldOutCases, volume: StoredVolume, predicted: Sequence[Mask]) -> StackPair:
    stack = np.stack([predicted[index] for index in volume.indices])
    rows, columns = (n * mm for n, mm in zip(volume.raw_shape, volume.spacing_mm, strict=True))
    return StackPair(
        stack,
        np.stack([tests.data.mask(index) for index in volume.indices]),
        volume.voxel_mm(stack.shape[-1]),
        (rows, columns),
        f"{tests.data.dataset(volume.indices[0])}/{volume.name}",
    )
