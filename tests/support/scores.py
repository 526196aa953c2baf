"""Scores without a model."""

from typing import Any

from flames_cli.core.scores.detection import LesionCounts
from flames_cli.stages.evaluate.parts import Scored
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score


def make_score(
    case: str, dice: float | None, organ: str = "breast", hausdorff: float | None = 1.0, **changes: Any
) -> Score:
    """Return the score of a case whose patient has the same name."""
    values = {
        "iou": dice / 2,
        "dice": dice,
        "pixel_accuracy": 0.9,
        "hausdorff_px": hausdorff,
        "majority_accuracy": 0.8,
    }
    facts = {"patient": case, "lesion": "large", "lesions": LesionCounts(1, 1, 1, 1), **changes}
    return Score(case, "busi", organ, metrics=values, **facts)


def make_scored(
    scores: Any,
    compared: Any = None,
    label: str = "US",
    modality: str = "US",
    split: str = "server_test",
    unseen: str = "",
) -> Scored:
    """Return the scores of a model with one seed: of the server's, unless its split says otherwise."""
    model = ModelUnderTest(label, modality, split, None, {}, unseen)
    return Scored(model, [scores], None if compared is None else [compared])
