import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated import choice
from flames_cli.core.federated.choice import (
    CANDIDATES,
    DECAY,
    EQUAL,
    FLAMES,
    OWN,
    PENALTY,
    PRIOR_PATIENTS,
    Choice,
    Preference,
    Prior,
    add_round,
    choose,
    flames_alpha,
    own_share,
    pool,
    scores,
    update,
)

DICE = st.fixed_dictionaries({name: st.floats(0, 1) for name in CANDIDATES})
LEVEL = dict.fromkeys(CANDIDATES, 0.5)


@given(st.integers(2, 1000))
def test_without_any_evidence_a_client_uses_flames(n_clients):
    assert choose(Prior(n_clients), 0, {}) == FLAMES
    assert choose(Prior(n_clients), 10, LEVEL) == FLAMES
    assert (
        choose(Prior(n_clients, pooled=pool([Preference(10), Preference(20, patients=5)])), 0, {}) == FLAMES
    )


@given(st.integers(2, 20), DICE)
def test_a_client_with_many_patients_uses_its_best_candidate(n_clients, dice):
    best = max(dice.values())
    assert dice[choose(Prior(n_clients), 1_000_000, dice)] >= best - PENALTY - 1e-4


@given(st.integers(2, 20), DICE, st.floats(-1, 1))
def test_patients_in_common_shift_no_choice(n_clients, dice, shift):
    """The differences count, so that a client of difficult patients is pooled with one of easy patients."""
    moved = {name: value + shift for name, value in dice.items()}
    gains, others = (add_round(2.0, {EQUAL: 0.1}, values)[1] for values in (dice, moved))
    assert others == pytest.approx(gains, abs=1e-9)


def test_few_patients_of_its_own_do_not_outvote_many_others():
    dice = {**LEVEL, OWN: 0.9}
    others = pool([Preference(100, 40, 1.0, {EQUAL: 0.1, OWN: -0.3})])
    assert choose(Prior(2, pooled=others), 2, dice) == EQUAL
    assert choose(Prior(2, pooled=others), 40, dice) == OWN


def test_scores_by_hand():
    prior = Prior(4, rounds=1.0, gains={EQUAL: 0.2}, pooled={EQUAL: -0.1, OWN: 0.3})
    found = scores(prior, 2, {**LEVEL, EQUAL: 0.6})
    own = (DECAY * 0.2 + 0.1) / (DECAY + 1)
    expected = (2 * own - 0.1 * PRIOR_PATIENTS) / (2 + PRIOR_PATIENTS) - PENALTY * abs(0.25 - 0.35)
    assert found[EQUAL] == pytest.approx(expected)
    assert found[FLAMES] == 0
    assert found[OWN] == pytest.approx(0.3 * PRIOR_PATIENTS / (2 + PRIOR_PATIENTS) - PENALTY * 0.65)


def test_older_rounds_count_less():
    rounds, gains = add_round(0.0, {}, {**LEVEL, OWN: 0.7})
    assert (rounds, gains[OWN]) == (1.0, pytest.approx(0.2))
    rounds, gains = add_round(rounds, gains, LEVEL)
    assert (rounds, gains[OWN]) == (1 + DECAY, pytest.approx(0.2 * DECAY / (1 + DECAY)))
    assert add_round(rounds, gains, {}) == (rounds, gains)


@given(st.lists(DICE, min_size=1, max_size=12))
def test_gains_stay_within_their_limits(rounds_of_dice):
    rounds, gains = 0.0, {}
    for dice in rounds_of_dice:
        rounds, gains = add_round(rounds, gains, dice)
        assert Preference(1, 1, rounds, gains).gains == gains  # checks the limits


def test_the_pool_weighs_clients_by_patients_and_limits_what_one_may_claim():
    few, many = Preference(1, 2, 1.0, {OWN: 0.4}), Preference(1, 10**6, 1.0, {OWN: -0.1})
    most = choice.MOST_PATIENTS
    expected = (2 * 0.4 - most * 0.1) / (2 + most + PRIOR_PATIENTS)
    assert pool([few, many])[OWN] == pytest.approx(expected)
    assert pool([Preference(5)]) == {}


def test_a_record_is_continued_with_each_choice():
    first = update(None, 10, None)
    assert first == Preference(10)
    second = update(first, 12, Choice(OWN, 3, {**LEVEL, OWN: 0.6}))
    assert (second.n_examples, second.patients, second.rounds) == (12, 3, 1.0)
    assert second.gains[OWN] == pytest.approx(0.1)
    assert update(second, 9, Choice(FLAMES)) == Preference(9, 3, 1.0, second.gains)


@pytest.mark.parametrize("n_clients", [2, 3, 5])
def test_candidates_keep_different_shares_of_a_clients_own_weights(n_clients):
    shares = [own_share(name, n_clients) for name in CANDIDATES]
    assert own_share(FLAMES, n_clients) == flames_alpha(n_clients)
    assert all(0 < share <= 1 for share in shares)
    assert len(set(shares)) == len(shares)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (("best", 0, {}), "the choice is 'best', expected one of flames, equal"),
        ((OWN, -1, {}), "based on -1 patients"),
        ((OWN, 1, {}), "based on 1 patients and 0 results"),
        ((OWN, 0, LEVEL), "based on 0 patients and 5 results"),
        ((OWN, 1, {OWN: 0.5}), "results other than those of flames, equal"),
        ((OWN, 1, {**LEVEL, OWN: math.nan}), "a Dice outside 0 to 1"),
        ((OWN, 1, {**LEVEL, OWN: 1.1}), "a Dice outside 0 to 1"),
        ((OWN, 1, {**LEVEL, OWN: math.inf}), "a Dice outside 0 to 1"),
    ],
)
def test_an_impossible_choice_is_rejected(values, reason):
    with pytest.raises(ValueError, match=reason):
        Choice(*values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((1,), "1 clients are blended"),
        ((2, math.nan), "the weight of earlier rounds is nan"),
        ((2, 1.0, {"best": 0.1}), "numbers from -1 to 1 of known candidates"),
        ((2, 1.0, {OWN: math.nan}), "numbers from -1 to 1"),
        ((2, 1.0, {}, {OWN: 7.0}), "numbers from -1 to 1"),
    ],
)
def test_impossible_knowledge_is_rejected(values, reason):
    with pytest.raises(ValueError, match=reason):
        Prior(*values)
