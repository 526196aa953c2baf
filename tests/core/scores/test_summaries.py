import math

import pytest

from flames_cli.core.scores.metrics import summarise
from flames_cli.core.scores.summaries import summarise_seeds


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
