"""Scores of a run or a family, pooled over seeds and folds."""

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.compare.metrics import COLUMNS
from flames_cli.stages.compare.samples import Key, choose_scores, join, pool_scores
from tests.support.evaluations import MISSED, case_score, volume_score

CLIENT = Key("client_test", "busi", "US")
SERVER = Key("server_test", "US", "US")


def dice_of(sample):
    return sample.values(COLUMNS["dice"]).tolist()


def on_server(case, dice, **changes):
    return case_score(case, dice, **{"split": "server_test", "model": "US", **changes})


def test_seeds_are_rows_of_the_same_cases():
    scores = [case_score(case, dice, seed=seed) for seed, dice in ((0, 0.1), (1, 0.3)) for case in "ab"]
    pooled = pool_scores(scores)
    assert list(pooled) == [CLIENT]
    assert pooled[CLIENT].replicates == ((0, None), (1, None))
    assert dice_of(pooled[CLIENT]) == [[0.1, 0.1], [0.3, 0.3]]


def test_a_client_s_cases_are_those_of_all_folds_and_the_server_s_folds_are_rows():
    scores = [
        *(case_score(f"p{fold}", 0.1 * fold, fold=fold, seed=seed) for fold in (1, 2) for seed in (0, 1)),
        *(on_server("s", 0.1 * fold, fold=fold, seed=seed) for fold in (1, 2) for seed in (0, 1)),
    ]
    pooled = pool_scores(scores)
    assert dice_of(pooled[CLIENT]) == pytest.approx(np.array([[0.1, 0.2], [0.1, 0.2]]))
    assert len(pooled[SERVER].replicates) == 4
    assert sorted(np.ravel(dice_of(pooled[SERVER]))) == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_several_server_models_of_one_modality_count_by_their_mean():
    scores = [on_server("a", dice, model=f"US by {client}") for client, dice in (("x", 0.2), ("y", 0.4))]
    sample = pool_scores(scores)[SERVER]
    assert dice_of(sample) == pytest.approx(np.array([[0.3]]))
    assert len(sample.scores[0][0]) == 2


def test_the_model_of_the_modality_counts_alone():
    scores = [on_server("a", 0.2), on_server("a", 0.9, model="US by x")]
    assert dice_of(pool_scores(scores)[SERVER]) == [[0.2]]


def test_unseen_sites_are_test_sets_of_their_own():
    scores = [on_server("a", 0.2), on_server("b", 0.4, site="C6", unseen_site="C6")]
    assert list(pool_scores(scores)) == [SERVER, Key("server_test", "US", "US", "C6")]


def test_cases_that_a_seed_does_not_have_are_left_out():
    scores = [case_score("a"), case_score("b"), case_score("b", seed=1)]
    assert pool_scores(scores)[CLIENT].units == (("busi", "b"),)


def test_an_unknown_value_is_nan_and_a_missed_case_is_infinite():
    sample = pool_scores([case_score("a", hd95_px=MISSED), case_score("b", hd95_px=None)])[CLIENT]
    missed, unknown = sample.values(COLUMNS["hd95_px"])[0]
    assert np.isinf(missed)
    assert np.isnan(unknown)
    assert sample.values(COLUMNS["hd95_px_penalised"])[0][0] == 50.0


def test_parts_and_joins_keep_the_replicates():
    sample = pool_scores(
        [case_score(case, 0.1 * seed, seed=seed, site=case) for seed in (1, 2) for case in "ab"]
    )[CLIENT]
    part = sample.only(lambda score: score.site == "b")
    assert part.units == (("busi", "b"),)
    assert join([part, sample.only(lambda score: score.site == "a")]).units == (("busi", "b"), ("busi", "a"))
    assert dice_of(join([part, part])) == [[0.1, 0.1], [0.2, 0.2]]


def slices(n, **changes):
    facts = {"volume": "v", "dataset": "brats", "patient": "p", **changes}
    return [case_score(f"v/{number}", selected=number > 0, **facts) for number in range(n)]


def test_a_volume_or_a_still_image_has_one_value():
    volume, still = volume_score("v"), case_score("a")
    cases = [*slices(3), still]
    assert choose_scores(cases, [volume], "auto", "flames") == [volume, still]
    assert choose_scores(cases, [volume], "volumes", "flames") == [volume, still]
    assert choose_scores(cases, [volume], "slices", "flames") == [*cases[1:3], still]


def test_slices_of_a_volume_that_is_not_complete_count_alone_if_they_are_selected():
    cases = slices(3)
    assert choose_scores(cases, [], "auto", "flames") == cases[1:]
    with pytest.raises(FlamesError, match="test sets of run 'flames' have slices of 1 volumes that are not"):
        choose_scores(cases, [], "volumes", "flames")
