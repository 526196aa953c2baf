import json
import math

import pytest

from flames_cli.core.scores.detection import LesionCounts
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.stages.evaluate.lesion_rows import SIZES, make_lesion_row
from flames_cli.stages.evaluate.parts import divide, pool
from tests.support.scores import make_score, make_scored


def row_of(scores, compared=None, seed=0):
    """Return the row of one server model and one organ."""
    (part,) = divide(make_scored(scores, compared))
    return make_lesion_row(part, seed)


@pytest.fixture
def cases():
    """Return two small cases of one patient, one large, and one with an empty true mask and a prediction."""
    return [
        make_score("a", 0.1, lesion="small", patient="p", lesions=LesionCounts(2, 1, 3, 1)),
        make_score("b", 0.3, lesion="small", patient="p", lesions=LesionCounts(1, 0, 0, 0)),
        make_score("c", 0.8, lesion="large", patient="q", lesions=LesionCounts(1, 1, 1, 1)),
        make_score("d", 0.0, lesion="none", patient="q", lesions=LesionCounts(0, 0, 1, 0)),
    ]


def test_an_empty_mask_counts_in_all_alone(cases):
    sizes = row_of(cases).sizes
    assert tuple(sizes) == SIZES
    assert [sizes[size].dice.n for size in SIZES] == [2, 1, 3, 4]
    assert [sizes[size].dice.mean for size in SIZES] == pytest.approx([0.2, 0.8, 0.4, 0.3])
    assert [sizes[size].n_patients for size in SIZES] == [1, 1, 2, 2]


def test_lesions_are_pooled_before_their_shares(cases):
    sizes = row_of(cases).sizes
    assert sizes["small"].lesions == LesionCounts(3, 1, 3, 1)
    assert sizes["all"].lesions == LesionCounts(4, 2, 5, 2)
    assert sizes["all"].lesions.recall() == 0.5
    assert sizes["lesion"].lesions.precision() == 0.5
    assert sizes["all"].lesions.precision() == 0.4


def test_gains_are_paired_by_size_with_intervals_over_patients(cases):
    others = [make_score(case.case, 0.05, lesion=case.lesion, patient=case.patient) for case in cases]
    made = row_of(cases, others, seed=4)
    gains = made.gains
    assert [gains[size].mean for size in SIZES] == pytest.approx([0.15, 0.75, 0.35, 0.25])
    assert [(gains[size].n, gains[size].n_patients) for size in SIZES] == [(2, 1), (1, 1), (3, 2), (4, 2)]
    assert math.isnan(gains["small"].low)
    assert gains["all"] == bootstrap_interval([0.05, 0.25, 0.75, -0.05], ["p", "p", "q", "q"], seed=4)
    assert made.compared["all"].dice.mean == pytest.approx(0.05)


def test_one_name_in_two_data_sets_is_two_patients_and_in_one_collection_one():
    def people(*collections):
        models = [
            make_scored([make_score(case, 0.5, patient="1", collection=collection)], modality=case)
            for case, collection in zip(("CT", "MRI"), collections, strict=True)
        ]
        (part,) = pool(models)
        return make_lesion_row(part, 0).sizes["all"].n_patients

    assert people("ward", "ward") == 1
    assert people("ward", "other") == 2
    assert people("", "ward") == 2


def test_undefined_values_are_null_in_json():
    one = make_score("a", 0.2, lesion="none", lesions=LesionCounts())
    made = row_of([one], [make_score("a", 0.1, lesion="none")])
    plain = json.loads(json.dumps(made.as_json(), allow_nan=False))
    nothing = plain["sizes"]["small"]
    assert (nothing["n"], nothing["dice"]["mean"], nothing["recall"], nothing["precision"]) == (
        0,
        *[None] * 3,
    )
    assert plain["sizes"]["all"]["dice"]["mean"] == pytest.approx(0.2)
    assert plain["compared"]["all"]["lesions_found"] == 1
    assert plain["dice_gain"]["small"] == {"mean": None, "low": None, "high": None, "n": 0, "patients": 0}
    assert plain["dice_gain"]["all"]["mean"] == pytest.approx(0.1)
    assert plain["dice_gain"]["all"]["low"] is None
    assert (plain["model"], plain["modality"], plain["unseen_site"]) == ("US", "US", None)
    assert {"compared", "dice_gain"}.isdisjoint(row_of([one]).as_json())


def test_false_positives_are_counted_on_images_without_a_lesion_only(cases):
    clean = make_score("e", 1.0, lesion="none", patient="r", lesions=LesionCounts())
    clean.metrics["pixel_accuracy"] = 1.0
    made = row_of([*cases, clean], [*cases, clean]).healthy
    assert (made.n, made.scores.n_patients, made.n_marked) == (2, 2, 1)
    assert made.lesions_per_image == 0.5
    assert made.area == pytest.approx(0.05)  # `make_score` gives an accuracy of 0.9
    assert made.as_json() == {
        "n": 2,
        "patients": 2,
        "with_prediction": 1,
        "share_with_prediction": 0.5,
        "false_lesions": 1,
        "false_lesions_per_image": 0.5,
        "false_area": pytest.approx(0.05),
    }


def test_without_an_image_free_of_lesions_there_are_no_false_positives(cases):
    plain = row_of(cases[:3], cases[:3])
    assert plain.healthy is plain.compared_healthy is None
    assert plain.as_json()["no_lesion"] is plain.as_json()["compared_no_lesion"] is None


def test_the_other_run_has_its_own_false_positives(cases):
    others = [make_score(case.case, 1.0, lesion=case.lesion, lesions=LesionCounts()) for case in cases]
    plain = row_of(cases, others).as_json()
    assert plain["no_lesion"]["with_prediction"] == 1
    assert plain["compared_no_lesion"]["with_prediction"] == 0
