import math

import pytest

from flames_cli.core.scores.metrics import summarise
from flames_cli.core.scores.summaries import DistanceSummary, summarise_distances, summarise_seeds


def test_one_seed_is_summarised_over_its_cases():
    assert summarise_seeds([[0.1, 0.4, math.inf]]) == summarise([0.1, 0.4, math.inf])


def test_several_seeds_are_summarised_over_the_means_of_their_cases():
    found = summarise_seeds([[0.1, 0.3], [0.5, 0.7], [0.3, 0.5]])
    assert found.mean == pytest.approx(0.4)
    assert found.sd == pytest.approx(0.2)
    assert (found.n, found.n_infinite) == (2, 0)


def test_the_seed_with_the_fewest_distances_gives_their_number():
    found = summarise_seeds([[1.0, math.inf, 3.0], [math.inf, math.inf, 4.0], [math.inf] * 3])
    assert (found.mean, found.n, found.n_infinite) == (3.0, 0, 3)
    assert math.isnan(summarise_seeds([[math.inf], [math.inf]]).mean)


def test_a_missed_case_counts_as_the_diagonal():
    found = summarise_distances([10.0, 20.0, math.inf], [100.0, 100.0, 150.0])
    assert found == DistanceSummary(mean=15.0, n_finite=2, penalised=60.0, n=3)


def test_a_model_that_misses_its_worst_case_is_no_better():
    all_found = summarise_distances([10.0, 40.0], [100.0, 100.0])
    one_missed = summarise_distances([10.0, math.inf], [100.0, 100.0])
    assert one_missed.mean < all_found.mean
    assert one_missed.penalised > all_found.penalised


def test_two_empty_masks_have_no_penalty():
    found = summarise_distances([math.inf, math.inf, 3.0], [9.0, 9.0, 9.0], [True, False, False])
    assert found == DistanceSummary(3.0, 1, 4.0, 3)


def test_no_case_has_no_distance():
    found = summarise_distances([], [])
    assert (found.n, found.n_finite) == (0, 0)
    assert math.isnan(found.mean)
    assert math.isnan(found.penalised)


@pytest.mark.parametrize(
    ("distances", "diagonals", "message"),
    [
        ([math.nan], [1.0], "expected numbers of 0 or more"),
        ([-1.0], [1.0], "expected numbers of 0 or more"),
        ([1.0], [math.inf], "expected positive numbers"),
        ([1.0], [0.0], "expected positive numbers"),
        ([1.0], [1.0, 2.0], "zip"),
    ],
)
def test_wrong_distances_are_rejected(distances, diagonals, message):
    with pytest.raises(ValueError, match=message):
        summarise_distances(distances, diagonals)
