import json
import math

import numpy as np
import pytest

from flames_cli.core.metrics import case_metrics
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.scoring import ALL_ORGANS, METRICS, Score, Subject, make_rows, score_subject
from flames_cli.store.h5 import read_shard_sets


def score(case, dice, organ="breast", hausdorff=1.0):
    values = {"iou": dice / 2, "dice": dice, "pixel_accuracy": 0.9, "hausdorff_px": hausdorff}
    return Score(case, "busi", organ, values)


@pytest.fixture(scope="module")
def subject(workspace):
    """The server's US test set: two data sets."""
    data = ShardDataset(read_shard_sets(workspace() / "shards" / "server-US.h5", "test"))
    return Subject("US", "US", "server_test", data, {})


class Halves:
    """Predicts the left half of every image."""

    def masks(self, weights, data, order=None):
        for _ in range(len(data)):
            mask = np.zeros((32, 32), np.uint8)
            mask[:, :16] = 1
            yield mask


def test_every_case_is_scored_by_the_metrics_of_core(subject):
    scores = score_subject(Halves(), subject)
    assert len(scores) == len(subject.data)
    for index, found in enumerate(scores):
        (predicted,) = list(Halves().masks({}, [None]))
        assert found.metrics == case_metrics(predicted, subject.data.example(index)[1])
        assert found.case == subject.data.case(index).case
        assert (found.dataset, found.organ) == (subject.data.dataset(index), subject.data.organ(index))
    assert {found.organ for found in scores} == {"breast", "ovary"}
    assert set(scores[0].metrics) == set(METRICS)


def test_one_organ_is_one_row(subject):
    (row,) = make_rows(subject, [score("a", 0.2), score("b", 0.6)], None)
    assert (row.label, row.modality, row.organ, row.n) == ("US", "US", "breast", 2)
    assert row.metrics["dice"].mean == pytest.approx(0.4)
    assert row.metrics["dice"].sd == pytest.approx(0.4 / math.sqrt(2))
    assert row.compared is row.dice_gain is None


def test_several_organs_are_pooled_over_cases_not_over_organs(subject):
    scores = [score("a", 0.9), score("b", 0.0, "ovary"), score("c", 0.0, "ovary"), score("d", 0.3, "ovary")]
    rows = make_rows(subject, scores, None)
    assert [(row.organ, row.n) for row in rows] == [(ALL_ORGANS, 4), ("breast", 1), ("ovary", 3)]
    assert [row.metrics["dice"].mean for row in rows] == pytest.approx([0.3, 0.9, 0.1])


def test_no_case_is_no_row(subject):
    assert make_rows(subject, [], None) == []


def test_distances_to_nothing_are_set_aside_and_counted(subject):
    (row,) = make_rows(subject, [score("a", 0.2), score("b", 0.6, hausdorff=math.inf)], None)
    distance = row.metrics["hausdorff_px"]
    assert (distance.mean, distance.n, distance.n_infinite) == (1, 1, 1)
    assert row.metrics["dice"].n == row.n == 2


def test_the_gain_is_the_mean_of_paired_differences(subject):
    ours, theirs = [score("a", 0.5), score("b", 0.9)], [score("a", 0.6), score("b", 0.4)]
    (row,) = make_rows(subject, ours, theirs)
    assert row.dice_gain.mean == pytest.approx((-0.1 + 0.5) / 2)
    assert row.dice_gain.n == 2
    assert row.compared["dice"].mean == pytest.approx(0.5)


def test_gains_are_paired_within_each_organ(subject):
    ours = [score("a", 0.5), score("b", 0.9, "ovary")]
    theirs = [score("a", 0.4), score("b", 0.6, "ovary")]
    rows = make_rows(subject, ours, theirs)
    assert [row.dice_gain.mean for row in rows] == pytest.approx([0.2, 0.1, 0.3])


def test_runs_of_other_cases_are_never_paired(subject):
    with pytest.raises(ValueError, match="zip"):
        make_rows(subject, [score("a", 0.5), score("b", 0.5)], [score("a", 0.5)])


def test_a_mean_of_nothing_is_null_in_json(subject):
    (row,) = make_rows(subject, [score("a", 0.2, hausdorff=math.inf)], [score("a", 0.1)])
    plain = json.loads(json.dumps(row.as_json(), allow_nan=False))
    assert plain["metrics"]["hausdorff_px"] == {"mean": None, "sd": None, "n": 0, "n_infinite": 1}
    assert plain["dice_gain"]["mean"] == pytest.approx(0.1)
    assert (plain["model"], plain["organ"], plain["n"]) == ("US", "breast", 1)
    assert "compared" not in make_rows(subject, [score("a", 0.2)], None)[0].as_json()
