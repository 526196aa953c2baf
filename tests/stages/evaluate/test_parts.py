import numpy as np
import pytest

from flames_cli.stages.evaluate.parts import (
    ALL_ORGANS,
    divide,
    divide_by_site,
    matrix_of,
    pool,
    pool_runs,
    values_of,
)
from tests.support.scores import make_part, make_score, make_volume


def test_no_case_is_no_part():
    assert pool_runs([]) == []
    assert pool([]) == []


def test_several_organs_follow_the_line_of_all_cases():
    scores = [
        make_score("a", 0.9),
        make_score("b", 0.0, "ovary", dataset="otu2d"),
        make_score("c", 0.0, "ovary"),
    ]
    parts = divide(make_part(scores))
    assert [(part.organ, part.dataset, len(part.cases)) for part in parts] == [
        (ALL_ORGANS, "", 3),
        ("breast", "", 1),
        ("ovary", "", 2),
        ("ovary", "otu2d", 1),
        ("ovary", "busi", 1),
    ]


def test_data_sets_of_one_organ_stand_apart_below_their_pooled_line():
    scores = [make_score(name, 0.5, "colon", dataset=name) for name in ("kvasir", "cvc", "kvasir-2")]
    parts = divide(make_part(scores))
    assert [(part.organ, part.dataset, len(part.cases)) for part in parts] == [
        ("colon", "", 3),
        ("colon", "kvasir", 1),
        ("colon", "cvc", 1),
        ("colon", "kvasir-2", 1),
    ]


def test_sites_have_lines_of_their_own_where_cases_name_them():
    scores = [make_score("a", 0.9, site="C2"), make_score("b", 0.5, site="C1"), make_score("c", 0.1)]
    parts = divide_by_site(make_part(scores))
    assert [(part.site, [case.case for case in part.cases]) for part in parts] == [
        ("C1", ["b"]),
        ("C2", ["a"]),
    ]
    assert divide_by_site(make_part([make_score("a", 0.9)])) == []


def test_an_unseen_site_is_named_next_to_every_organ():
    scores = [make_score("a", 0.9, unseen_site="C6"), make_score("b", 0.0, "ovary", unseen_site="C6")]
    parts = divide(make_part(scores))
    assert [part.organ for part in parts] == [
        "all organs, C6 (unseen)",
        "breast, C6 (unseen)",
        "ovary, C6 (unseen)",
    ]
    assert {part.unseen for part in parts} == {"C6"}


def test_one_model_is_not_pooled():
    assert pool([make_part([make_score("a", 0.9)])]) == []


def client(case, dice, label, modality="US", **changes):
    return make_score(case, dice, model=label, modality=modality, split="client_test", **changes)


def test_clients_are_pooled_over_their_cases():
    scores = [
        client("a", 0.9, "busi"),
        client("b", 0.8, "busi"),
        client("c", 0.1, "brats", "MRI", organ="brain"),
    ]
    (part,) = pool(pool_runs(scores))
    assert (part.label, part.modality, part.organ, part.unseen) == ("all clients", "", ALL_ORGANS, "")
    assert [case.case for case in part.cases] == ["a", "b", "c"]


def test_unseen_sites_are_pooled_apart():
    scores = [
        make_score("a", 0.9),
        make_score("d", 0.6, model="MRI"),
        make_score("b", 0.8, unseen_site="C5"),
        make_score("c", 0.7, unseen_site="C6"),
    ]
    seen, unseen = pool(pool_runs(scores))
    assert (seen.label, seen.modality, seen.organ) == ("all models", "US", "breast")
    assert [case.case for case in seen.cases] == ["a", "d"]
    assert (unseen.organ, unseen.unseen) == ("breast, C5, C6 (unseen)", "C5, C6")
    assert [case.case for case in unseen.cases] == ["b", "c"]


def test_the_sites_of_a_model_follow_it_whatever_the_order_of_scores():
    scores = [
        make_score("a", 0.9, model="one"),
        make_score("a", 0.9, model="two"),
        make_score("b", 0.8, model="one", unseen_site="C5"),
    ]
    assert [(part.label, part.unseen) for part in pool_runs(scores)] == [
        ("one", ""),
        ("one", "C5"),
        ("two", ""),
    ]


def test_models_that_were_tested_on_the_same_cases_are_not_pooled():
    scores = [make_score(case, 0.9, model=f"US by {number}") for number in (1, 2) for case in "ab"]
    assert pool(pool_runs(scores)) == []


def test_seeds_are_rows_of_the_same_cases_in_the_same_order():
    scores = [make_score(case, dice, seed=1) for case, dice in (("b", 0.3), ("a", 0.4))]
    scores += [make_score(case, dice, seed=0) for case, dice in (("a", 0.1), ("b", 0.2))]
    part = make_part(scores)
    assert matrix_of(part, "dice").tolist() == [[0.1, 0.2], [0.4, 0.3]]


def test_what_some_seeds_do_not_have_is_left_out():
    scores = [make_score(case, 0.5, seed=seed) for seed in (0, 1) for case in "ab"]
    scores += [make_score("c", 0.5, seed=0), make_score("a", 0.5, seed=0, model="MRI")]
    (part,) = pool_runs(scores)
    assert [case.case for case in part.cases] == ["a", "b"]


def test_folds_of_a_client_are_one_test_set_for_each_seed():
    scores = [
        client(f"{fold}-{case}", 0.1 * fold + seed, "busi", seed=seed, fold=fold)
        for seed in (0, 1)
        for fold in (1, 2)
        for case in "ab"
    ]
    (part,) = pool_runs(scores)
    assert [case.case for case in part.cases] == ["1-a", "1-b", "2-a", "2-b"]
    assert matrix_of(part, "dice") == pytest.approx(np.array([[0.1, 0.1, 0.2, 0.2], [1.1, 1.1, 1.2, 1.2]]))


def test_folds_of_the_server_are_rows_as_seeds_are():
    scores = [
        make_score(case, fold + 10 * seed, seed=seed, fold=fold)
        for seed in (0, 1)
        for fold in (2, 1)
        for case in "ab"
    ]
    (part,) = pool_runs(scores)
    assert matrix_of(part, "dice")[:, 0].tolist() == [1, 2, 11, 12]
    assert len(part.cases) == 2


def test_values_that_are_not_defined_are_left_out_seed_by_seed():
    scores = [
        make_volume(name, 0.5, seed=seed, precision=precision)
        for seed, name, precision in ((0, "a", 0.1), (0, "b", None), (1, "a", 0.3), (1, "b", 0.4))
    ]
    (part,) = pool_runs(scores)
    assert values_of(part, "precision") == [[0.1], [0.3, 0.4]]
