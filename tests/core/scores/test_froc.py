import math

import numpy as np
import pytest

from flames_cli.core.scores.detection import LesionMatches, match_lesions
from flames_cli.core.scores.froc import THRESHOLDS, FrocPoint, froc, match_at_thresholds

TARGET = np.zeros((12, 12), bool)
TARGET[1:4, 1:4] = TARGET[7:10, 7:10] = True
PROBABILITIES = np.zeros((12, 12), np.float32)
PROBABILITIES[1:4, 1:4] = 0.8
PROBABILITIES[7:10, 7:10] = 0.4
PROBABILITIES[0:2, 9:11] = 0.2


def test_points_by_hand():
    healthy = match_at_thresholds(PROBABILITIES[:2], np.zeros((2, 12), bool))
    points = froc([match_at_thresholds(PROBABILITIES, TARGET), healthy])
    assert [point.threshold for point in points] == list(THRESHOLDS)
    assert [point.sensitivity for point in points] == [1.0, 1.0, 0.5, 0.5, 0.0]
    # Parts of the second image above 0.1: a row of 0.8 and a row of 0.2.
    assert [point.false_positives for point in points] == [1.5, 0.5, 0.5, 0.5, 0.0]


def test_a_point_is_the_matching_of_the_mask_at_its_threshold():
    found = match_at_thresholds(PROBABILITIES, TARGET, (0.3, 0.5), min_iou=0.5)
    assert found == {one: match_lesions(one < PROBABILITIES, TARGET, 0.5) for one in (0.3, 0.5)}


def test_counts_are_summed_before_any_ratio():
    one, other = {0.5: LesionMatches(1, 1, 1, 1)}, {0.5: LesionMatches(9, 3, 0, 1)}
    assert froc([one, other]) == [FrocPoint(0.5, LesionMatches(10, 4, 1, 2))]
    assert froc([one, other])[0].sensitivity == 0.1
    assert one == {0.5: LesionMatches(1, 1, 1, 1)}


def test_nothing_gives_no_point():
    assert froc([]) == []
    point = FrocPoint(0.5, LesionMatches())
    assert math.isnan(point.sensitivity)
    assert math.isnan(point.false_positives)


def test_cases_with_other_thresholds_are_rejected():
    with pytest.raises(ValueError, match=r"got the thresholds \[0.3\] after \[0.5\]"):
        froc([{0.5: LesionMatches()}, {0.3: LesionMatches()}])
