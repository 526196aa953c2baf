"""Details of an evaluation: calibration, lesions at several thresholds, and what each option changes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from flames_cli.core.scores.calibration import EDGES, Reliability
from flames_cli.core.scores.detection import LesionMatches
from flames_cli.core.scores.metrics import Counts
from flames_cli.report.calibration import ReliabilityCurve
from flames_cli.stages.evaluate.choices import MaskChoice
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.stages.evaluate.predicting import Predicted
from flames_cli.stages.evaluate.scoring import RunFacts
from flames_cli.store.evaluation_details import CalibrationBin, FrocScore, OptionScore

MOST_CURVES = 8
"""Largest number of models that are drawn apart; more are drawn together by modality."""


@dataclass(frozen=True, slots=True)
class Details:
    """Lines of calibration.csv, froc.csv and options.csv, in the order in which models are scored."""

    bins: list[CalibrationBin] = field(default_factory=list)
    froc: list[FrocScore] = field(default_factory=list)
    before: list[OptionScore] = field(default_factory=list)

    def add(self, run: RunFacts, model: ModelUnderTest, tests: HeldOutCases, predicted: Predicted) -> None:
        """Add the lines of one model on one test set."""
        facts: dict[str, Any] = {
            **{"run": run.run, "seed": run.seed, "fold": run.fold, "split": model.split},
            **{"model": model.label, "modality": model.modality, "unseen_site": model.unseen},
        }
        self.bins.extend(CalibrationBin(**facts, **one) for one in _bins(predicted.reliability))
        self.froc.extend(FrocScore(**facts, **_froc(*one)) for one in predicted.lesions.items())
        for option, counted in predicted.before.items():
            for index, counts in enumerate(counted):
                dataset, case = tests.data.dataset(index), tests.data.case(index).case
                pixels = _pixels(counts)
                self.before.append(OptionScore(**facts, dataset=dataset, case=case, option=option, **pixels))


def _bins(found: Reliability) -> Iterator[dict[str, Any]]:
    sums = zip(found.counts.tolist(), found.probability_sums.tolist(), found.positives.tolist(), strict=True)
    for (low, high), (pixels, total, positives) in zip(pairwise(EDGES), sums, strict=True):
        yield {"low": low, "high": high, "pixels": pixels, "probability_sum": total, "positives": positives}


def _froc(threshold: float, found: LesionMatches) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "images": found.images,
        "lesions": found.lesions,
        "lesions_predicted": found.predicted,
        "lesions_matched": found.matched,
        "sensitivity": found.recall() if found.lesions else None,
        "false_positives": found.false_positives_per_image() if found.images else None,
    }


def _pixels(counts: Counts) -> dict[str, Any]:
    return {
        "tp": counts.true_positive,
        "fp": counts.false_positive,
        "fn": counts.false_negative,
        "tn": counts.true_negative,
    }


def calibration_lines(bins: Sequence[CalibrationBin]) -> list[dict[str, Any]]:
    """Return a line per model and test set of one split, with the pixels of all runs together; `bins` are
    lines of calibration.csv."""
    lines = []
    for (_, model, modality, unseen), own in _by_model(bins).items():
        found = reliability_of(own)
        lines.append(
            {
                "model": model,
                "modality": modality,
                "unseen_site": unseen,
                "pixels": int(found.counts.sum()),
                "ece": found.ece(),
                "relevant_pixels": int(found.counts[1:].sum()),
                "relevant_ece": found.relevant_ece(),
            }
        )
    return lines


def choice_lines(choices: Iterable[tuple[RunFacts, ModelUnderTest, MaskChoice]]) -> list[dict[str, Any]]:
    """Return a line for each choice that validation patients made, or were too few to make."""
    lines = []
    for run, model, choice in choices:
        for option, made in (("threshold", choice.threshold), ("postprocess", choice.cleanup)):
            if made is None:
                continue
            parts = "largest part" if choice.rule.largest_only else "all parts"
            chosen = choice.rule.threshold if option == "threshold" else parts
            lines.append(
                {
                    "run": run.run,
                    "seed": run.seed,
                    "fold": run.fold,
                    "model": model.label,
                    "modality": model.modality,
                    "option": option,
                    "chosen": chosen,
                    "enough": made.enough,
                    "validation_patients": made.n_patients,
                    "validation_dice": made.dice,
                    "validation_dice_default": made.default_dice,
                }
            )
    return lines


def reliability_curves(bins: Sequence[CalibrationBin]) -> list[ReliabilityCurve]:
    """Return a curve per model and test set, or one per split and modality if there are many."""
    groups: dict[str, list[CalibrationBin]] = {}
    for (split, model, _, unseen), own in _by_model(bins).items():
        server = "server " if split == "server_test" else ""
        groups.setdefault(f"{server}{model}{f', {unseen}' if unseen else ''}", []).extend(own)
    if len(groups) > MOST_CURVES:
        groups = {}
        for one in bins:
            kind = "server model" if one.split == "server_test" else "clients"
            groups.setdefault(f"{kind} {one.modality}", []).append(one)
    return [_curve(name, reliability_of(own)) for name, own in groups.items()]


def reliability_of(bins: Sequence[CalibrationBin]) -> Reliability:
    """Return the sum of the bins of some models, which are lines of calibration.csv."""
    rows = np.array([(one.pixels, one.probability_sum, one.positives) for one in bins], np.float64)
    counts, sums, positives = rows.reshape(-1, len(EDGES) - 1, 3).sum(axis=0).T
    return Reliability(counts.astype(np.int64), sums, positives.astype(np.int64))


def _by_model(bins: Sequence[CalibrationBin]) -> dict[tuple[str, ...], list[CalibrationBin]]:
    found: dict[tuple[str, ...], list[CalibrationBin]] = {}
    for one in bins:
        found.setdefault((one.split, one.model, one.modality, one.unseen_site), []).append(one)
    return found


def _curve(name: str, found: Reliability) -> ReliabilityCurve:
    filled = found.counts > 0
    counts = found.counts[filled]
    return ReliabilityCurve(
        name=name,
        ece=found.relevant_ece(),
        probabilities=(found.probability_sums[filled] / counts).tolist(),
        shares=(found.positives[filled] / counts).tolist(),
        counts=counts.tolist(),
    )
