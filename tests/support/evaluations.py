"""Lines of an evaluation's CSVs, without a model."""

import math
from typing import Any

from flames_cli.store.evaluations import CaseScore, VolumeScore

MISSED = math.inf


def case_score(case: str, dice: float = 0.5, **changes: Any) -> CaseScore:
    """Return the score of a still image of a patient with the same name, of a client `busi`."""
    n = 100
    tp = round(n * dice)
    facts = {
        "run": "flames",
        "seed": 0,
        "fold": None,
        "split": "client_test",
        "model": "busi",
        "modality": "US",
        "dataset": "busi",
        "collection": "",
        "organ": "breast",
        "site": "",
        "unseen_site": "",
        "patient": case,
        "volume": "",
        "selected": True,
        "lesion": "large",
        "tp": tp,
        "fp": n - tp,
        "fn": n - tp,
        "tn": 1000,
        "iou": dice / (2 - dice),
        "pixel_accuracy": 0.9,
        "majority_accuracy": 0.8,
        "hausdorff_px": 4.0,
        "hd95_px": 3.0,
        "hd95_mm": None,
        "assd_px": 2.0,
        "assd_mm": None,
        "diagonal_px": 50.0,
        "diagonal_mm": None,
        "lesions": 1,
        "lesions_predicted": 1,
        "lesions_matched": 1,
    }
    return CaseScore(case=case, dice=dice, **{**facts, **changes})


def volume_score(volume: str, dice: float = 0.5, **changes: Any) -> VolumeScore:
    """Return the score of a volume of a patient with the same name, of a client `brats-1`."""
    facts = {
        "run": "flames",
        "seed": 0,
        "fold": None,
        "split": "client_test",
        "model": "brats-1",
        "modality": "MRI",
        "dataset": "brats",
        "collection": "",
        "organ": "brain",
        "site": "",
        "unseen_site": "",
        "patient": volume,
        "slices": 10,
        "tp": 10,
        "fp": 5,
        "fn": 5,
        "tn": 980,
        "sensitivity": 0.6,
        "precision": 0.7,
        "volume_ml": 15.0,
        "predicted_ml": 14.0,
        "volume_error_ml": -1.0,
        "hd95_mm": 5.0,
        "assd_mm": 2.0,
        "nsd_2mm": 0.4,
        "diagonal_mm": 300.0,
        "lesions": 1,
        "lesions_predicted": 2,
        "lesions_matched": 1,
    }
    return VolumeScore(volume=volume, dice=dice, **{**facts, **changes})
