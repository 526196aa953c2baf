import json
import math
from dataclasses import replace

import pytest

from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.stages.evaluate.parts import ALL_ORGANS, divide
from flames_cli.stages.evaluate.rows import BOUNDED, make_row
from tests.support.scores import make_score, make_scored


def rows_of(*scores):
    """Return the rows of one server model."""
    return [make_row(part, 0) for part in divide(make_scored(*scores))]


def test_one_organ_is_one_row():
    (row,) = rows_of([make_score("a", 0.2), make_score("b", 0.6)])
    assert (row.label, row.modality, row.organ, row.n) == ("US", "US", "breast", 2)
    assert row.metrics["dice"].mean == pytest.approx(0.4)
    assert row.metrics["dice"].sd == pytest.approx(0.4 / math.sqrt(2))
    assert row.compared is row.dice_gain is None


def test_several_organs_are_pooled_over_cases_not_over_organs():
    scores = [
        make_score("a", 0.9),
        make_score("b", 0.0, "ovary"),
        make_score("c", 0.0, "ovary"),
        make_score("d", 0.3, "ovary"),
    ]
    made = rows_of(scores)
    assert [(row.organ, row.n) for row in made] == [(ALL_ORGANS, 4), ("breast", 1), ("ovary", 3)]
    assert [row.metrics["dice"].mean for row in made] == pytest.approx([0.3, 0.9, 0.1])


def test_distances_to_nothing_are_set_aside_and_counted():
    (row,) = rows_of([make_score("a", 0.2), make_score("b", 0.6, hausdorff=math.inf)])
    distance = row.metrics["hausdorff_px"]
    assert (distance.mean, distance.n, distance.n_infinite) == (1, 1, 1)
    assert row.metrics["dice"].n == row.n == 2


def test_the_gain_is_the_mean_of_paired_differences():
    ours, theirs = [make_score("a", 0.5), make_score("b", 0.9)], [make_score("a", 0.6), make_score("b", 0.4)]
    (row,) = rows_of(ours, theirs)
    assert row.dice_gain.mean == pytest.approx((-0.1 + 0.5) / 2)
    assert row.dice_gain.n == 2
    assert row.compared["dice"].mean == pytest.approx(0.5)


def test_gains_are_paired_within_each_organ():
    ours = [make_score("a", 0.5), make_score("b", 0.9, "ovary")]
    theirs = [make_score("a", 0.4), make_score("b", 0.6, "ovary")]
    assert [row.dice_gain.mean for row in rows_of(ours, theirs)] == pytest.approx([0.2, 0.1, 0.3])


def seed_rows(ours, theirs=None, same_seeds=True):
    """Return the row of one model whose cases a, b have these Dice by seed."""
    scores, compared = (
        [[make_score(case, dice) for case, dice in zip("ab", row, strict=True)] for row in rows]
        if rows
        else None
        for rows in (ours, theirs)
    )
    made = replace(make_scored([]), scores=scores, compared=compared, same_seeds=same_seeds)
    (part,) = divide(made)
    return make_row(part, 0)


def test_several_seeds_are_summarised_by_their_means():
    row = seed_rows([[0.2, 0.4], [0.6, 0.8]])
    assert (row.n, row.by_seed) == (2, pytest.approx([0.3, 0.7]))
    assert row.metrics["dice"].mean == pytest.approx(0.5)
    assert row.metrics["dice"].sd == pytest.approx(0.4 / math.sqrt(2))
    assert row.intervals["dice"] == bootstrap_interval([[0.2, 0.4], [0.6, 0.8]], ["a", "b"], 0)
    assert set(row.intervals) == set(BOUNDED)


def test_gains_of_the_same_seeds_are_paired_by_seed_and_case():
    row = seed_rows([[0.2, 0.4], [0.6, 0.8]], [[0.1, 0.1], [0.4, 0.4]])
    assert row.gain_by_seed == pytest.approx([0.2, 0.3])
    assert row.dice_gain.mean == pytest.approx(0.25)
    assert row.dice_gain.sd == pytest.approx(0.1 / math.sqrt(2))
    expected = bootstrap_interval([[0.1, 0.3], [0.2, 0.4]], ["a", "b"], 0)
    assert (row.gain_interval.mean, row.gain_interval.low) == pytest.approx((expected.mean, expected.low))


def test_gains_over_other_seeds_are_differences_of_means():
    row = seed_rows([[0.2, 0.4], [0.6, 0.8]], [[0.1, 0.1]], same_seeds=False)
    assert row.gain_by_seed == []
    assert row.dice_gain.mean == pytest.approx(0.4)
    assert math.isnan(row.dice_gain.sd)
    expected = bootstrap_interval([[0.2, 0.4], [0.6, 0.8]], ["a", "b"], 0, minus=[[0.1, 0.1]])
    assert row.gain_interval == expected
    plain = json.loads(json.dumps(row.as_json(), allow_nan=False))
    assert plain["dice_gain"]["sd"] is None


def test_a_mean_of_nothing_is_null_in_json():
    (row,) = rows_of([make_score("a", 0.2, hausdorff=math.inf)], [make_score("a", 0.1)])
    plain = json.loads(json.dumps(row.as_json(), allow_nan=False))
    assert plain["metrics"]["hausdorff_px"] == {"mean": None, "sd": None, "n": 0, "n_infinite": 1}
    assert plain["dice_gain"]["mean"] == pytest.approx(0.1)
    assert (plain["model"], plain["organ"], plain["n"]) == ("US", "breast", 1)
    assert "compared" not in rows_of([make_score("a", 0.2)])[0].as_json()
