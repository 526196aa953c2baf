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
    """The metrics of one case."""

    case: str
    dataset: str
    organ: str
    patient: str
    """Or the first of those whose images are near copies (`CaseInfo.split_unit`)."""
    lesion: Lesion
    """Whether its lesions are small or large by the data set's rule; none: its true mask is empty."""
    metrics: dict[str, float]
    lesions: LesionCounts
    site: str = ""
    collection: str = ""
    """What shares its patients with other data sets; empty: the data set."""

    @property
    def person(self) -> str:
        """The patient, by a name that no other has, in whatever data set."""
        return f"{self.collection or self.dataset}/{self.patient}"

    @property
    def values(self) -> dict[str, float]:
        """All that is known of the case in numbers: its metrics, then its lesions counted."""
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
    """One model with one test set: a client with its own, or a server model with its modality's."""

    label: str
    modality: str
    split: str
    """client_test or server_test."""
    data: ShardDataset
    weights: Weights
    unseen: str = ""
    """The site that no client has seen and that all of `data` is from; else empty."""
    collections: Mapping[str, str] = field(default_factory=dict)
    """By data set: what shares its patients with others."""


def score_model(segmenter: Segmenter, model: ModelUnderTest) -> list[Score]:
    """The metrics of every case of the model's test set, in its order."""
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
