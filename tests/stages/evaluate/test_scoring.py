import numpy as np
import pytest

from flames_cli.core.scores.metrics import case_metrics, count_pixels
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.stages.evaluate.scoring import RunFacts, score_cases
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.workspace import partition_folder

MODEL = ModelUnderTest("US", "US", "server_test", {})
RUN = RunFacts("flames", 3, 2)


@pytest.fixture(scope="module")
def tests(workspace):
    """Return the server's US test set: two data sets, one of which shares its patients."""
    data = ShardDataset(read_shard_sets(partition_folder(workspace()) / "shards" / "server-US.h5", "test"))
    return HeldOutCases(data, {"busi": "ward"})


def left_half():
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 1
    return mask


@pytest.fixture(scope="module")
def scores(tests):
    """Return the scores of a model that predicts the left half of every image."""
    return score_cases(RUN, MODEL, tests, [left_half()] * len(tests.data))


def test_every_case_is_scored_by_the_metrics_of_core(tests, scores):
    assert len(scores) == len(tests.data)
    for index, found in enumerate(scores):
        truth = tests.data.example(index)[1]
        expected, counts = case_metrics(left_half(), truth), count_pixels(left_half(), truth)
        assert {name: getattr(found, name) for name in expected} == expected
        assert (found.tp, found.fp) == (counts.true_positive, counts.false_positive)
        assert (found.fn, found.tn) == (counts.false_negative, counts.true_negative)
        assert found.case == tests.data.case(index).case
        assert (found.dataset, found.organ) == (tests.data.dataset(index), tests.data.organ(index))
    assert {found.organ for found in scores} == {"breast", "ovary"}


def test_every_score_has_its_run_its_patient_and_the_size_of_its_lesions(tests, scores):
    for index, found in enumerate(scores):
        assert (found.run, found.seed, found.fold) == ("flames", 3, 2)
        assert found.patient == tests.data.case(index).split_unit
        assert found.lesion == tests.data.lesion(index)
        place = {"busi": "ward", "otu2d": "otu2d"}[found.dataset]
        assert found.person == f"{place}/{found.patient}"
