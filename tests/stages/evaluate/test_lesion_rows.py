import pytest

from flames_cli.core.scores.detection import LesionMatches
from flames_cli.stages.evaluate.lesion_rows import SIZES, find_false_positives, make_lesion_row
from flames_cli.stages.evaluate.parts import pool, pool_runs
from tests.support.scores import make_part, make_score, make_volume

EMPTY = {"lesion": "none", "tp": 0, "fn": 0, "lesions": 0, "lesions_matched": 0}


def lesions(n, predicted, matched):
    return {"lesions": n, "lesions_predicted": predicted, "lesions_matched": matched}


@pytest.fixture
def cases():
    """Return two small cases of one patient, one large, and one with an empty true mask and a prediction."""
    return [
        make_score("a", 0.1, lesion="small", patient="p", **lesions(2, 3, 1)),
        make_score("b", 0.3, lesion="small", patient="p", **lesions(1, 0, 0)),
        make_score("c", 0.8, lesion="large", patient="q", **lesions(1, 1, 1)),
        make_score("d", 0.0, patient="q", fp=10, tn=90, lesions_predicted=1, **EMPTY),
    ]


def test_an_empty_mask_counts_in_all_alone(cases):
    sizes = make_lesion_row(make_part(cases)).sizes
    assert tuple(sizes) == SIZES
    assert [sizes[size].dice.n for size in SIZES] == [2, 1, 3, 4]
    assert [sizes[size].dice.mean for size in SIZES] == pytest.approx([0.2, 0.8, 0.4, 0.3])
    assert [sizes[size].n_patients for size in SIZES] == [1, 1, 2, 2]


def test_lesions_are_pooled_before_their_shares(cases):
    sizes = make_lesion_row(make_part(cases)).sizes
    assert sizes["small"].found == LesionMatches(lesions=3, predicted=3, matched=1, images=2)
    every = sizes["all"].found
    assert (every.recall(), every.precision(), every.f1()) == (2 / 4, 2 / 5, 4 / 9)
    assert every.false_positives_per_image() == 3 / 4


def test_one_name_in_two_data_sets_is_two_patients_and_in_one_collection_one():
    def people(*collections):
        scores = [
            make_score(case, 0.5, patient="1", model=case, dataset=case, collection=collection)
            for case, collection in zip(("CT", "MRI"), collections, strict=True)
        ]
        (part,) = pool(pool_runs(scores))
        return make_lesion_row(part).sizes["all"].n_patients

    assert people("ward", "ward") == 1
    assert people("ward", "other") == 2
    assert people("", "ward") == 2


def test_every_line_has_the_same_columns_and_healthy_images_come_first(cases):
    lines = list(make_lesion_row(make_part(cases)).lines())
    assert [line["lesion"] for line in lines] == ["none", *SIZES]
    assert len({tuple(line) for line in lines}) == 1
    assert lines[0]["false_positive_rate"] == 1
    assert lines[0]["false_area"] == 0.1


def test_false_positives_are_counted_on_images_without_a_lesion_only(cases):
    clean = make_score("e", 1.0, patient="r", fp=0, tn=100, lesions_predicted=0, **EMPTY)
    made = make_lesion_row(make_part([*cases, clean])).healthy
    assert (made.n, made.n_patients, made.rate) == (2, 2, 0.5)
    assert made.found.false_positives_per_image() == 0.5
    assert made.area == pytest.approx(0.05)


def test_without_an_image_free_of_lesions_there_are_no_false_positives(cases):
    made = make_lesion_row(make_part(cases[:3]))
    assert made.healthy is None
    assert [line["lesion"] for line in made.lines()] == list(SIZES)


def test_false_positives_of_volumes_have_their_mean_volume():
    sick, marked, clean = (
        make_volume("a", 0.5),
        make_volume("b", 0.0, tp=0, fn=0, fp=10, tn=990, predicted_ml=10.0),
        make_volume("c", 1.0, tp=0, fn=0, fp=0, tn=1000, predicted_ml=0.0),
    )
    made = find_false_positives(make_part([sick, marked, clean]))
    assert (made.n, made.rate, made.predicted_ml) == (2, 0.5, 5)
