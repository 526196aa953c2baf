import numpy as np
import pytest

from flames_cli.core.scores.detection import count_lesions
from flames_cli.core.scores.metrics import case_metrics
from flames_cli.core.scores.summaries import METRICS
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.evaluate.scoring import ModelUnderTest, score_model
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.workspace import partition_folder
from tests.support.scores import make_score


@pytest.fixture(scope="module")
def model(workspace):
    """Return the server's US test set: two data sets, one of which shares its patients."""
    data = ShardDataset(read_shard_sets(partition_folder(workspace()) / "shards" / "server-US.h5", "test"))
    return ModelUnderTest("US", "US", "server_test", data, {}, collections={"busi": "ward"})


class Halves:
    """Model that predicts the left half of every image."""

    def masks(self, weights, data, order=None):
        for _ in range(len(data)):
            mask = np.zeros((32, 32), np.uint8)
            mask[:, :16] = 1
            yield mask


def test_every_case_is_scored_by_the_metrics_of_core(model):
    scores = score_model(Halves(), model)
    assert len(scores) == len(model.data)
    for index, found in enumerate(scores):
        (predicted,) = list(Halves().masks({}, [None]))
        truth = model.data.example(index)[1]
        assert found.metrics == case_metrics(predicted, truth)
        assert found.lesions == count_lesions(predicted, truth)
        assert found.case == model.data.case(index).case
        assert (found.dataset, found.organ) == (model.data.dataset(index), model.data.organ(index))
    assert {found.organ for found in scores} == {"breast", "ovary"}
    assert set(scores[0].metrics) == set(METRICS)


def test_every_score_has_its_patient_and_the_size_of_its_lesions(model):
    scores = score_model(Halves(), model)
    for index, found in enumerate(scores):
        assert found.patient == model.data.case(index).split_unit
        assert found.lesion == model.data.lesion(index)
        assert (found.lesion == "none") is (found.lesions.n == 0)
        place = {"busi": "ward", "otu2d": "otu2d"}[found.dataset]
        assert found.person == f"{place}/{found.patient}"


def test_the_values_of_a_case_are_its_metrics_and_its_lesions():
    values = make_score("a", 0.5).values
    assert list(values)[: len(METRICS)] == list(METRICS)
    assert values["dice"] == 0.5
    names = ("lesions", "lesions_found", "lesions_predicted", "lesions_right")
    assert [values[name] for name in names] == [1, 1, 1, 1]
