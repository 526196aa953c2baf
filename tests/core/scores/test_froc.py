import numpy as np

from flames_cli.core.scores.detection import LesionMatches, match_lesions
from flames_cli.core.scores.froc import THRESHOLDS, match_at_thresholds

TARGET = np.zeros((12, 12), bool)
TARGET[1:4, 1:4] = TARGET[7:10, 7:10] = True
PROBABILITIES = np.zeros((12, 12), np.float32)
PROBABILITIES[1:4, 1:4] = 0.8
PROBABILITIES[7:10, 7:10] = 0.4
PROBABILITIES[0:2, 9:11] = 0.2


def test_lesions_by_hand():
    found = match_at_thresholds(PROBABILITIES, TARGET)
    assert list(found) == list(THRESHOLDS)
    assert [one.recall() for one in found.values()] == [1.0, 1.0, 0.5, 0.5, 0.0]
    assert [one.false_positives_per_image() for one in found.values()] == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_each_threshold_is_the_matching_of_its_mask():
    found = match_at_thresholds(PROBABILITIES, TARGET, (0.3, 0.5), min_iou=0.5)
    assert found == {one: match_lesions(one < PROBABILITIES, TARGET, 0.5) for one in (0.3, 0.5)}


def test_a_healthy_image_has_false_lesions_only():
    found = match_at_thresholds(PROBABILITIES, TARGET & False)
    assert found[0.1] == LesionMatches(lesions=0, predicted=3, matched=0, images=1)
