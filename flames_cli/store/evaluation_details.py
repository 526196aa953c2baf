"""Details of an evaluation as CSV: bins of probabilities, lesions at several thresholds, and the counts that
show what an option changes."""

from dataclasses import dataclass

CALIBRATION, FROC, OPTIONS = "calibration.csv", "froc.csv", "options.csv"
"""Names of the files in the folder of an evaluation."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Model and test set: the first columns of all details."""

    run: str
    seed: int
    fold: int | None
    split: str
    model: str
    modality: str
    unseen_site: str


@dataclass(frozen=True, slots=True)
class CalibrationBin(ModelFacts):
    """Pixels of all images of a test set whose probability is in one bin; a line of calibration.csv."""

    low: float
    """Lower limit of the bin, which belongs to it."""
    high: float
    pixels: int
    probability_sum: float
    positives: int
    """Number of these pixels that are tumour."""


@dataclass(frozen=True, slots=True)
class FrocScore(ModelFacts):
    """Lesions of all selected images of a test set at one threshold; a line of froc.csv."""

    threshold: float
    images: int
    lesions: int
    lesions_predicted: int
    lesions_matched: int
    sensitivity: float | None
    """Share of the lesions that are matched; None if there is no lesion."""
    false_positives: float | None
    """Mean number of predicted parts of an image that are no lesion; None without images."""


@dataclass(frozen=True, slots=True)
class OptionScore(ModelFacts):
    """Counts of one image before an option takes effect; a line of options.csv."""

    dataset: str
    case: str
    option: str
    """The option: tta, threshold or postprocess. Those before it in this order are on, if they are."""
    tp: int
    fp: int
    fn: int
    tn: int
