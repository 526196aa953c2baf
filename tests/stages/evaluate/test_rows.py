import math

import pytest

from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.stages.evaluate.parts import ALL_ORGANS, divide
from flames_cli.stages.evaluate.rows import BOUNDED, make_row, make_volume_row
from tests.support.scores import make_part, make_score, make_volume


def rows_of(*scores):
    """Return the rows of one server model."""
    return [make_row(part, 0) for part in divide(make_part(list(scores)))]


def test_one_organ_is_one_row():
    (row,) = rows_of(make_score("a", 0.2), make_score("b", 0.6))
    assert (row.label, row.modality, row.organ, row.n, row.n_patients) == ("US", "US", "breast", 2, 2)
    assert row.metrics["dice"].mean == pytest.approx(0.4)
    assert row.metrics["dice"].sd == pytest.approx(0.4 / math.sqrt(2))


def test_several_organs_are_pooled_over_cases_not_over_organs():
    made = rows_of(
        make_score("a", 0.9),
        make_score("b", 0.0, "ovary"),
        make_score("c", 0.0, "ovary"),
        make_score("d", 0.3, "ovary"),
    )
    assert [(row.organ, row.n) for row in made] == [(ALL_ORGANS, 4), ("breast", 1), ("ovary", 3)]
    assert [row.metrics["dice"].mean for row in made] == pytest.approx([0.3, 0.9, 0.1])


def test_missed_cases_are_left_out_of_the_mean_distance_and_penalised_next_to_it():
    missed = make_score("b", 0.6, hd95_px=math.inf, hausdorff_px=math.inf)
    (row,) = rows_of(make_score("a", 0.2), missed)
    distance = row.metrics["hd95_px"]
    assert (distance.mean, distance.n, distance.n_infinite) == (2, 1, 1)
    assert (row.penalised["hd95_px"].mean, row.penalised["hd95_px"].n) == ((2 + 50) / 2, 2)
    # The image has 10×10 pixels.
    assert row.penalised["hausdorff_px"].mean == pytest.approx((1 + math.sqrt(200)) / 2)
    assert row.metrics["dice"].n == row.n == 2


def test_an_image_without_a_lesion_has_no_distance_to_be_penalised_for():
    healthy = make_score("b", 1.0, tp=0, fn=0, fp=0, tn=100, lesion="none", hd95_px=math.inf)
    (row,) = rows_of(make_score("a", 0.2), healthy)
    assert (row.n, row.penalised["hd95_px"].n, row.penalised["hd95_px"].mean) == (2, 1, 2)


def test_distances_in_mm_are_of_the_cases_whose_spacing_is_known():
    (row,) = rows_of(make_score("a", 0.2, hd95_mm=3.0), make_score("b", 0.6))
    assert (row.metrics["hd95_mm"].mean, row.metrics["hd95_mm"].n) == (3, 1)
    (none,) = rows_of(make_score("b", 0.6))
    assert math.isnan(none.cells()["hd95_mm_mean"])


def test_several_seeds_are_summarised_by_their_means():
    dice = [[0.2, 0.4], [0.6, 0.8]]
    (row,) = rows_of(
        *(make_score(case, dice[seed][n], seed=seed) for seed in (0, 1) for n, case in enumerate("ab"))
    )
    assert (row.n, row.by_seed) == (2, pytest.approx([0.3, 0.7]))
    assert row.metrics["dice"].mean == pytest.approx(0.5)
    assert row.metrics["dice"].sd == pytest.approx(0.4 / math.sqrt(2))
    assert row.intervals["dice"] == bootstrap_interval(dice, ["a", "b"], 0)
    assert set(row.intervals) == set(BOUNDED)
    assert row.cells()["seeds"] == 2


def test_slices_of_one_patient_are_one_patient():
    (row,) = rows_of(make_score("a", 0.2, patient="p"), make_score("b", 0.6, patient="p"))
    assert (row.n, row.n_patients) == (2, 1)


def test_volumes_are_summarised_one_value_each():
    volumes = [make_volume("a", 0.2), make_volume("b", 0.6, precision=None, hd95_mm=math.inf)]
    row = make_volume_row(make_part(volumes), 0)
    assert row.metrics["dice"].mean == pytest.approx(0.4)
    assert (row.metrics["precision"].mean, row.metrics["precision"].n) == (0.6, 1)
    assert (row.metrics["hd95_mm"].mean, row.penalised["hd95_mm"].mean) == (4, 52)
    assert row.intervals["dice"] == bootstrap_interval([0.2, 0.6], ["a", "b"], 0)
