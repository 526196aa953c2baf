"""Scores without a model."""

from collections.abc import Callable

import pytest

from flames_cli.core.scores.detection import LesionCounts
from flames_cli.stages.evaluate.parts import Scored
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score


@pytest.fixture(scope="session")
def score() -> Callable[..., Score]:
    """score("a", 0.5, organ="breast", hausdorff=1.0, …): of case a, whose patient is called alike."""

    def make(case, dice, organ="breast", hausdorff=1.0, **changes):
        values = {"iou": dice / 2, "dice": dice, "pixel_accuracy": 0.9, "hausdorff_px": hausdorff}
        facts = {"patient": case, "lesion": "large", "lesions": LesionCounts(1, 1, 1, 1), **changes}
        return Score(case, "busi", organ, metrics=values, **facts)

    return make


@pytest.fixture(scope="session")
def scored() -> Callable[..., Scored]:
    """scored([…], compared, label="US", …): of a server model, unless its split says otherwise."""

    def make(scores, compared=None, label="US", modality="US", split="server_test", unseen=""):
        return Scored(ModelUnderTest(label, modality, split, None, {}, unseen), scores, compared)

    return make
