import math

import pytest

from flames_cli.stages.evaluate.parts import pool_runs
from flames_cli.stages.evaluate.summary import find_fairness, make_summary
from tests.support.scores import make_score, make_volume


def summary_of(cases, volumes=()):
    return make_summary(pool_runs(cases), pool_runs(volumes))


def of_mri(case, dice, volume, **changes):
    names = {"model": "MRI", "modality": "MRI", "dataset": "brats", "organ": "brain", "volume": volume}
    return make_score(case, dice, **{**names, "patient": volume, **changes})


def test_a_model_of_stills_has_one_line_of_images_in_pixels():
    (row,) = summary_of([make_score("a", 0.2), make_score("b", 0.6, patient="a")])
    assert (row.label, row.modality, row.organ, row.protocol) == ("US", "US", "breast", "images")
    assert (row.n, row.n_patients, row.dice.mean, row.unit) == (2, 1, pytest.approx(0.4), "px")
    assert row.datasets == ("busi",)


def test_images_whose_spacing_is_known_have_distances_in_mm():
    (row,) = summary_of([make_score("a", 0.2, hd95_mm=3.0, diagonal_mm=90.0)])
    assert (row.unit, row.hd95.mean) == ("mm", 3.0)
    (mixed,) = summary_of([make_score("a", 0.2, hd95_mm=3.0), make_score("b", 0.2)])
    assert (mixed.unit, mixed.hd95.mean) == ("px", 2.0)


def test_complete_volumes_replace_their_slices():
    slices = [of_mri("a1", 0.9, "a"), of_mri("a2", 0.8, "a"), of_mri("b1", 0.7, "b")]
    (row,) = summary_of(slices, [make_volume("a", 0.3), make_volume("b", 0.5)])
    assert (row.protocol, row.n, row.dice.mean, row.unit) == ("volumes", 2, pytest.approx(0.4), "mm")


def test_a_model_with_volumes_and_other_images_has_a_line_of_each():
    images = [of_mri("a1", 0.9, "a"), of_mri("c1", 0.7, "c", dataset="slices"), of_mri("d", 0.5, "")]
    volumes, rest = summary_of(images, [make_volume("a", 0.3)])
    assert (volumes.protocol, volumes.n) == ("volumes", 1)
    assert (rest.protocol, rest.n, rest.dice.mean) == ("images", 2, pytest.approx(0.6))


def test_a_line_names_the_organs_of_its_own_cases():
    images = [of_mri("a1", 0.9, "a"), of_mri("d", 0.5, "", dataset="knees", organ="knee")]
    volumes, others = summary_of(images, [make_volume("a", 0.3)])
    assert (volumes.protocol, volumes.organ) == ("volumes", "brain")
    assert (others.protocol, others.organ) == ("images", "knee")


def test_a_test_of_an_unseen_modality_is_a_line_of_its_own():
    images = [of_mri("a", 0.9, ""), of_mri("b", 0.1, "", modality="CT", unseen_site="unseen modality")]
    seen, unseen = summary_of(images)
    assert (seen.organ, seen.modality, seen.unseen) == ("brain", "MRI", "")
    assert (unseen.label, unseen.organ, unseen.modality) == ("MRI", "brain", "CT")
    assert unseen.unseen == "unseen modality"


def test_a_volume_of_the_same_name_in_another_data_set_replaces_nothing():
    _, rest = summary_of([of_mri("a1", 0.9, "a", dataset="other")], [make_volume("a", 0.3)])
    assert (rest.protocol, rest.n) == ("images", 1)


def test_missed_cases_count_with_their_diagonal():
    missed = make_score("b", 0.0, hd95_px=math.inf)
    healthy = make_score("c", 1.0, tp=0, fn=0, fp=0, tn=100, lesion="none", hd95_px=0.0)
    (row,) = summary_of([make_score("a", 0.2), missed, healthy])
    assert (row.missed, row.hd95.mean, row.penalised.mean, row.n) == (1, 2.0, (2 + 50) / 2, 3)


def test_healthy_images_alone_have_no_distance():
    (row,) = summary_of([make_score("c", 1.0, tp=0, fn=0, fp=0, tn=100, lesion="none", hd95_px=0.0)])
    assert (row.unit, row.missed) == ("", 0)
    assert math.isnan(row.cells()["hd95_penalised"])


def test_unseen_sites_are_lines_of_their_own():
    rows = summary_of([make_score("a", 0.2), make_score("b", 0.6, unseen_site="C6")])
    assert [(row.unseen, row.dice.mean) for row in rows] == [("", 0.2), ("C6", 0.6)]


def test_several_seeds_are_summarised_by_their_means():
    (row,) = summary_of(
        [make_score("a", dice, seed=seed, run=str(seed)) for seed, dice in enumerate((0.2, 0.6))]
    )
    assert (row.n, row.dice.mean) == (1, pytest.approx(0.4))
    assert row.dice.sd == pytest.approx(0.4 / math.sqrt(2))


def test_fairness_is_the_spread_of_the_clients_mean_dice():
    rows = summary_of(
        [make_score(name, dice, model=name, split="client_test") for name, dice in (("a", 0.2), ("b", 0.8))]
    )
    found = find_fairness(rows)
    assert (found.n, found.mean, found.worst, found.best) == (2, pytest.approx(0.5), "a", "b")
    assert found.as_json() == {
        "n": 2,
        "dice_mean": pytest.approx(0.5),
        "dice_sd": pytest.approx(0.6 / math.sqrt(2)),
        "worst": "a",
        "worst_dice": 0.2,
        "best": "b",
        "best_dice": 0.8,
        "spread": pytest.approx(0.6),
    }
    assert find_fairness(rows[:1]) is None
