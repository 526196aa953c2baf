"""Scores of one model on one test set, case by case."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flames_cli.arrays import Weights
from flames_cli.core.imaging.small_lesion_rule import Lesion
from flames_cli.core.scores.detection import LesionCounts, count_lesions
from flames_cli.core.scores.metrics import case_metrics
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.segment import Segmenter


@dataclass(frozen=True, slots=True)
class Score:
    """Metrics of one case."""

    case: str
    dataset: str
    organ: str
    patient: str
    """The patient, or the first of several patients whose images are near copies (`CaseInfo.split_unit`)."""
    lesion: Lesion
    """Size of its lesions by the data set's rule: small, large, or none if its true mask is empty."""
    metrics: dict[str, float]
    lesions: LesionCounts
    site: str = ""
    collection: str = ""
    """Name that data sets with common patients share; empty: the data set's own."""

    @property
    def person(self) -> str:
        """The patient, by a name that is unique over all data sets."""
        return f"{self.collection or self.dataset}/{self.patient}"

    @property
    def values(self) -> dict[str, float]:
        """All numbers of the case: its metrics, then its lesion counts."""
        counts = self.lesions
        return {
            **self.metrics,
            "lesions": counts.n,
            "lesions_found": counts.found,
            "lesions_predicted": counts.n_predicted,
            "lesions_right": counts.n_right,
        }


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """One model with one test set: a client's with its own, or a server model with that of its modality."""

    label: str
    modality: str
    split: str
    """client_test or server_test."""
    data: ShardDataset
    weights: Weights
    unseen: str = ""
    """The unseen site of all cases in `data`, which no client has trained on; else empty."""
    collections: Mapping[str, str] = field(default_factory=dict)
    """Name that a data set shares with others that have the same patients, by data set."""


def score_model(segmenter: Segmenter, model: ModelUnderTest) -> list[Score]:
    """Return the metrics of every case of the model's test set, in its order."""
    scores = []
    data = model.data
    for index, predicted in enumerate(segmenter.masks(model.weights, data)):
        _, truth = data.example(index)
        case, dataset = data.case(index), data.dataset(index)
        scores.append(
            Score(
                case=case.case,
                dataset=dataset,
                organ=data.organ(index),
                patient=case.split_unit,
                lesion=data.lesion(index),
                metrics=case_metrics(predicted, truth),
                lesions=count_lesions(predicted, truth),
                site=case.site,
                collection=model.collections.get(dataset, ""),
            )
        )
    return scores
