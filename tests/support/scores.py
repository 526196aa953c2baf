"""Scores without a model."""

from typing import Any

from flames_cli.stages.evaluate.parts import Part, pool_runs
from flames_cli.store.evaluations import CaseScore, VolumeScore


def make_score(case: str, dice: float, organ: str = "breast", **changes: Any) -> CaseScore:
    """Return the score of an image of 100 pixels whose patient has the same name."""
    facts: dict[str, Any] = {
        **{"run": "one", "seed": 0, "fold": None, "split": "server_test", "model": "US", "modality": "US"},
        **{"dataset": "busi", "collection": "", "organ": organ, "site": "", "unseen_site": ""},
        **{"patient": case, "case": case, "volume": "", "selected": True, "lesion": "large"},
        **{"tp": 5, "fp": 5, "fn": 5, "tn": 85, "iou": dice / 2, "dice": dice},
        **{"pixel_accuracy": 0.9, "majority_accuracy": 0.8},
        **{"hausdorff_px": 1.0, "hd95_px": 2.0, "hd95_mm": None, "assd_px": 0.5, "assd_mm": None},
        **{"diagonal_px": 50.0, "diagonal_mm": None},
        **{"lesions": 1, "lesions_predicted": 1, "lesions_matched": 1},
    }
    return CaseScore(**{**facts, **changes})


def make_volume(volume: str, dice: float, **changes: Any) -> VolumeScore:
    """Return the score of a volume of 1000 voxels of 1 ml whose patient has the same name."""
    facts: dict[str, Any] = {
        **{"run": "one", "seed": 0, "fold": None, "split": "server_test", "model": "MRI"},
        **{"modality": "MRI", "dataset": "brats", "collection": "", "organ": "brain", "site": ""},
        **{"unseen_site": "", "patient": volume, "volume": volume, "slices": 10},
        **{"tp": 30, "fp": 20, "fn": 10, "tn": 940, "dice": dice, "sensitivity": 0.75, "precision": 0.6},
        **{"volume_ml": 40.0, "predicted_ml": 50.0, "volume_error_ml": 10.0, "hd95_mm": 4.0},
        **{"assd_mm": 1.0, "nsd_2mm": 0.5, "diagonal_mm": 100.0},
        **{"lesions": 1, "lesions_predicted": 2, "lesions_matched": 1},
    }
    return VolumeScore(**{**facts, **changes})


def make_part(scores: list[CaseScore]) -> Part[CaseScore]:
    """Return the scores of one model as a part."""
    (part,) = pool_runs(scores)
    return part
