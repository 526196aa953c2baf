"""Measurements of single images and volumes that take longer than their prediction on a GPU: distances,
matched lesions, calibration. They share no data, so that several processes can make them; none needs torch.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask
from flames_cli.core.imaging.geometry import pixel_after_square
from flames_cli.core.scores.calibration import Reliability, measure_reliability
from flames_cli.core.scores.detection import MIN_IOU, LesionMatches, match_lesions
from flames_cli.core.scores.extra_metrics import METRICS
from flames_cli.core.scores.froc import match_at_thresholds
from flames_cli.core.scores.metrics import Counts, count_pixels, hausdorff_px, sum_counts
from flames_cli.core.scores.surfaces import TOLERANCE_MM, SurfaceDistances, surface_dice, surface_distances


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """Probabilities of one image, H×W float32, and its true mask."""

    probabilities: NDArray[np.float32]
    truth: Mask
    selected: bool
    """False: its lesions are not counted."""


def judge_probabilities(
    min_iou: float, image: PredictedImage
) -> tuple[Reliability, dict[float, LesionMatches] | None]:
    """Return the calibration of an image, and its lesions by threshold if it is selected."""
    reliability = measure_reliability(image.probabilities, image.truth)
    if not image.selected:
        return reliability, None
    return reliability, match_at_thresholds(image.probabilities, image.truth, min_iou=min_iou)


@dataclass(frozen=True, slots=True)
class MaskPair:
    """Predicted and true mask of one image, S×S, with the geometry of the image before it was made square."""

    predicted: Mask
    truth: Mask
    raw_shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    case: str = ""
    """Data set and case, for messages."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Measurements of a case."""

    min_iou: float = MIN_IOU
    """Smallest intersection over union of a lesion and the part that finds it."""
    metrics: tuple[str, ...] = ()
    """Names of metrics of plug-ins, which each process loads by itself."""


ALWAYS = Wanted()
"""Measurements where nothing more is asked for."""


def measure_image(wanted: Wanted, pair: MaskPair) -> dict[str, Any]:
    """Return the distances of an image, and its lesions, by column of cases.csv.

    Raises:
        FlamesError: a plug-in's metric fails, or gives no number.
    """
    size = len(pair.truth)
    found = match_lesions(pair.predicted, pair.truth, wanted.min_iou)
    in_px = _surfaces(pair, pixel_after_square((1.0, 1.0), pair.raw_shape, size))
    row_mm, column_mm = pair.spacing_mm
    in_mm = (
        in_px.scaled(row_mm)
        if in_px and row_mm == column_mm > 0
        else _surfaces(pair, pixel_after_square(pair.spacing_mm, pair.raw_shape, size))
    )
    sides = [pixels * mm for pixels, mm in zip(pair.raw_shape, pair.spacing_mm, strict=True)]
    return {
        "hausdorff_px": hausdorff_px(pair.predicted, pair.truth),
        "hd95_px": in_px and in_px.hd95,
        "hd95_mm": in_mm and in_mm.hd95,
        "assd_px": in_px and in_px.assd,
        "assd_mm": in_mm and in_mm.assd,
        "diagonal_px": math.hypot(*pair.raw_shape) if in_px else None,
        "diagonal_mm": math.hypot(*sides) if in_mm else None,
        **_lesions(found),
        "metrics": _extra(wanted, pair, pixel_after_square(pair.spacing_mm, pair.raw_shape, size)),
    }


def _extra(
    wanted: Wanted, pair: "MaskPair | StackPair", spacing_mm: tuple[float, ...]
) -> dict[str, float | None]:
    """Return the metrics of plug-ins by name."""
    masks = pair.predicted, pair.truth
    return {name: METRICS.look_up(name).value(masks, spacing_mm, pair.case) for name in wanted.metrics}


def _surfaces(pair: MaskPair, spacing: tuple[float, float]) -> SurfaceDistances | None:
    """Return the distances with pixels of that size; None if the size is unknown."""
    return surface_distances(pair.predicted, pair.truth, spacing) if math.isfinite(sum(spacing)) else None


@dataclass(frozen=True, slots=True)
class StackPair:
    """Predicted and true masks of a volume, D×S×S, with its geometry."""

    predicted: Mask
    truth: Mask
    voxel_mm: tuple[float, float, float]
    """Size of a voxel of the stacks; a number is NaN where it is unknown."""
    raw_mm: tuple[float, float]
    """Height and width of a slice before it was made square."""
    case: str = ""
    """Data set and volume, for messages."""


def measure_volume(wanted: Wanted, pair: StackPair) -> dict[str, Any]:
    """Return the figures of a volume by column of volumes.csv. Raises as `measure_image`.

    Masks are compared as they are stored, as squares: their padding contains no tumour, and their pixels have
    the size in mm that the resizing gives them.
    """
    counts = sum_counts(count_pixels(*masks) for masks in zip(pair.predicted, pair.truth, strict=True))
    return {
        "slices": len(pair.predicted),
        "tp": counts.true_positive,
        "fp": counts.false_positive,
        "fn": counts.false_negative,
        "tn": counts.true_negative,
        "dice": counts.dice(),
        "sensitivity": _known(counts.sensitivity()),
        "precision": _known(counts.precision()),
        **_in_mm(pair, counts),
        **_lesions(match_lesions(pair.predicted, pair.truth, wanted.min_iou)),
        "metrics": _extra(wanted, pair, pair.voxel_mm),
    }


def _in_mm(pair: StackPair, counts: Counts) -> dict[str, Any]:
    """Return the columns in mm and ml; None if the spacing is unknown."""
    if not math.isfinite(sum(pair.voxel_mm)):
        names = ("volume_ml", "predicted_ml", "volume_error_ml", "hd95_mm", "assd_mm", "nsd_2mm")
        return dict.fromkeys((*names, "diagonal_mm"))
    voxel_mm3 = math.prod(pair.voxel_mm)
    distances = surface_distances(pair.predicted, pair.truth, pair.voxel_mm)
    return {
        "volume_ml": counts.volume_ml(voxel_mm3),
        "predicted_ml": counts.predicted_ml(voxel_mm3),
        "volume_error_ml": counts.volume_error_ml(voxel_mm3),
        "hd95_mm": distances.hd95,
        "assd_mm": distances.assd,
        "nsd_2mm": surface_dice(pair.predicted, pair.truth, pair.voxel_mm, TOLERANCE_MM),
        "diagonal_mm": math.hypot(len(pair.predicted) * pair.voxel_mm[0], *pair.raw_mm),
    }


def _lesions(found: LesionMatches) -> dict[str, int]:
    return {
        "lesions": found.lesions,
        "lesions_predicted": found.predicted,
        "lesions_matched": found.matched,
    }


def _known(value: float) -> float | None:
    """Return `value`, or None for NaN: a ratio of nothing."""
    return None if math.isnan(value) else value
