"""True masks of the inputs, and the agreement of predicted masks with them in the geometry of the source."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask
from flames_cli.core.scores.detection import match_lesions
from flames_cli.core.scores.extra_metrics import ExtraMetric
from flames_cli.core.scores.intervals import Interval, bootstrap_interval
from flames_cli.core.scores.metrics import count_pixels, sum_counts
from flames_cli.core.scores.surfaces import TOLERANCE_MM, surface_dice, surface_distances
from flames_cli.errors import FlamesError
from flames_cli.readers.inputs import InputImage
from flames_cli.store.prediction_folder import PredictedCase, TruthScores

SUFFIXES = (".nii.gz", ".nii", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".jpg", ".jpeg")
"""Suffixes of masks in a folder, in the order in which they are tried; a folder of DICOM files has none."""
SUMMARISED = ("dice", "sensitivity", "precision", "hd95_mm", "assd_mm", "nsd_2mm", "lesion_f1")
"""Scores of which the summary has the mean and its interval."""


@dataclass(frozen=True, slots=True)
class TruthSource:
    """Places of true masks."""

    masks: Mapping[str, tuple[Path, ...]]
    """Files of the mask of each input, by name; an empty tuple: the manifest states that it has no lesion."""
    labels: tuple[str, ...] = ()
    """Labels that are tumour; those of a manifest's own column come first."""

    def of(self, image: InputImage) -> InputImage | None:
        """Return the input with its true masks; None if it has none."""
        if image.name not in self.masks:
            return None
        found = self.masks[image.name]
        return replace(image, source=replace(image.source, masks=found, is_healthy=not found))


def find_truth(
    asked: str | None, inputs: Sequence[InputImage], labels: tuple[str, ...] = ()
) -> TruthSource | None:
    """Return the true masks of the inputs.

    Args:
        asked: None: none; empty: those of the manifest; else a file for the only input, or a folder with
            masks of the same names as the inputs.
        inputs: the inputs.
        labels: labels that are tumour.

    Raises:
        FlamesError: no input has a mask there.
    """
    if asked is None:
        return None
    if not asked:
        masks = {one.name: one.source.masks for one in inputs if one.source.masks}
        if not masks:
            raise FlamesError(
                "got --truth without a path, and no input has a mask in a manifest; expected a manifest with "
                "a column mask, or --truth FOLDER with masks of the names of the images"
            )
        # In a manifest that has masks, `none` states that there is no lesion.
        masks |= {one.name: () for one in inputs if one.source.is_healthy and one.source.patient}
        return TruthSource(masks, labels)
    path = Path(asked)
    if path.is_dir():
        found = {one.name: _mask_in(path, one.name) for one in inputs}
        masks = {name: (mask,) for name, mask in found.items() if mask}
        if len(inputs) == 1 and not masks:
            masks = {inputs[0].name: (path,)}  # a mask that is a DICOM series
        if masks:
            return TruthSource(masks, labels)
        raise FlamesError(
            f"no mask in {path} has the name of an input, expected such as {inputs[0].name}.png or "
            f"{inputs[0].name}.nii.gz; rename the masks, or list images and masks in a manifest"
        )
    if not path.exists():
        raise FlamesError(f"no mask {path}, expected a file or a folder of masks; check --truth")
    if len(inputs) > 1:
        raise FlamesError(
            f"--truth {path} is one mask for {len(inputs)} images, expected a folder with a mask for each; "
            "pass the folder, or one image"
        )
    return TruthSource({inputs[0].name: (path,)}, labels)


def _mask_in(folder: Path, name: str) -> Path | None:
    places = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((place for place in (*places, folder / name) if place.exists()), None)


def score(
    predicted: Mask,
    truth: NDArray[np.uint8],
    voxel_mm: Sequence[float],
    is_volume: bool,
    metrics: Sequence[ExtraMetric] = (),
    name: str = "",
) -> TruthScores:
    """Return the agreement of one predicted mask with the true one, N×H×W each.

    Args:
        predicted: the predicted mask; a still image has N = 1.
        truth: the true mask.
        voxel_mm: length of a voxel, or of a pixel of a still image, in mm; NaN where it is unknown.
        is_volume: True for slices of a volume.
        metrics: metrics of plug-ins.
        name: name of the input, for messages.

    Raises:
        FlamesError: a metric of a plug-in fails.
    """
    counts = sum_counts(count_pixels(*pair) for pair in zip(predicted, truth, strict=True))
    one, other = (predicted, truth) if is_volume else (predicted[0], truth[0])
    matches = match_lesions(one, other)
    distances: dict[str, float | None] = dict.fromkeys(("hd95_mm", "assd_mm", "nsd_2mm"))
    volumes: dict[str, float | None] = dict.fromkeys(("true_ml", "volume_error_ml"))
    if math.isfinite(sum(voxel_mm)):
        found = surface_distances(one, other, voxel_mm)
        distances = {
            "hd95_mm": _finite(found.hd95),
            "assd_mm": _finite(found.assd),
            "nsd_2mm": surface_dice(one, other, voxel_mm, TOLERANCE_MM),
        }
        if is_volume:
            mm3 = math.prod(voxel_mm)
            volumes = {"true_ml": counts.volume_ml(mm3), "volume_error_ml": counts.volume_error_ml(mm3)}
    return TruthScores(
        tp=counts.true_positive,
        fp=counts.false_positive,
        fn=counts.false_negative,
        tn=counts.true_negative,
        dice=counts.dice(),
        sensitivity=_finite(counts.sensitivity()),
        precision=_finite(counts.precision()),
        **distances,
        **volumes,
        true_lesions=matches.lesions,
        matched_lesions=matches.matched,
        lesion_f1=_finite(matches.f1()),
        metrics={metric.name: _own(metric, (one, other), voxel_mm, name) for metric in metrics},
    )


def _own(
    metric: ExtraMetric, masks: tuple[Mask, NDArray[np.uint8]], voxel_mm: Sequence[float], name: str
) -> float | None:
    value = metric.value(masks, voxel_mm, name)
    return None if value is None else _finite(value)


@dataclass(frozen=True, slots=True)
class TruthSummary:
    """Mean of each score over inputs with a true mask, with a 95 % interval by a bootstrap over patients."""

    n: int
    """Number of inputs with a true mask."""
    n_patients: int
    """Number of patients; 0 if they are not known, and each input counts as one."""
    means: Mapping[str, Interval]
    """Intervals by score; cases for which a score is not defined are left out of it, and `n` says of how many
    it is the mean."""


def summarise_truth(cases: Iterable[PredictedCase], seed: int = 0) -> TruthSummary | None:
    """Return the summary of all cases with scores; None without one."""
    scored = [(case, case.truth) for case in cases if case.truth]
    if not scored:
        return None
    people = {case.input: case.patient or f"{case.input} alone" for case, _ in scored}
    is_known = all(case.patient for case, _ in scored)
    n_patients = len(set(people.values())) if is_known else 0
    means = {}
    own = dict.fromkeys(name for _, truth in scored for name in truth.metrics)
    for name in (*SUMMARISED, *own):
        found = [
            (truth.metrics.get(name) if name in own else getattr(truth, name), people[case.input])
            for case, truth in scored
        ]
        known = [(value, person) for value, person in found if value is not None]
        values, patients = [value for value, _ in known], [person for _, person in known]
        means[name] = bootstrap_interval(values, patients, seed)
    return TruthSummary(len(scored), n_patients, means)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
