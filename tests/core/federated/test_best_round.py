"""The pooled validation Dice of rounds, and the best one: a function of the lines of rounds.jsonl alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.best_round import RoundScores, score_rounds

SIZES = {"a": 4, "b": 2, "c": 1, "d": 8}
"""Validation images by client."""


def entry(client, dice, received="received_", small=None, **more):
    found = {"client": client, f"{received}val_dice": dice, "n_val": SIZES[client], "n_val_patients": 2}
    if small is not None:
        found |= {f"{received}val_dice_small": small, "n_val_small": 1}
    return {**found, **more}


def line(round_, **dice):
    """Return the line of a round in which these clients validated what they received."""
    return {"round": round_, "clients": [entry(client, value) for client, value in dice.items()]}


def examined(round_, **dice):
    return {"round": round_, "clients": [entry(client, value, "") for client, value in dice.items()]}


# Sixteenths: their sums are exact, so that scores that differ never round to the same number.
DICE = st.integers(0, 16).map(lambda n: n / 16)
LINES = st.lists(
    st.dictionaries(st.sampled_from(sorted(SIZES)), DICE, max_size=4), min_size=1, max_size=8
).map(lambda rounds: [line(number, **dice) for number, dice in enumerate(rounds, start=1)])


def test_a_round_is_scored_by_the_next_line_over_images_not_over_clients():
    lines = [line(1, a=0.0, b=0.0), line(2, a=0.9, b=0.3), line(3, a=0.6, b=0.6)]
    assert score_rounds(lines).dice["all"] == pytest.approx({1: (4 * 0.9 + 2 * 0.3) / 6, 2: 0.6})


def test_without_rounds_in_step_a_number_is_of_the_round_with_which_its_client_began():
    late = {"round": 4, "clients": [entry("a", 0.5, began=1), entry("b", 0.25, began=3)]}
    assert score_rounds([line(1, a=0.0), late]).dice["all"] == {1: (4 * 0.5 + 2 * 0.25) / 6, 3: 2.5 / 6}
    damaged = {"round": 2, "clients": [entry("a", 0.5, began="x")]}
    assert score_rounds([line(1, a=0.0), damaged]).dice["all"] == {1: 0.5}


def test_the_last_round_is_scored_by_the_pass_after_it():
    lines = [line(1, a=0.0), line(2, a=0.5)]
    scores = score_rounds(lines, [examined(2, a=0.7), examined(1, a=0.6)])
    assert scores.dice["all"] == {1: 0.6, 2: 0.7}, "a pass replaces the number of the line"


def test_a_client_that_does_not_report_counts_with_its_last_number():
    lines = [line(1, a=0.5, b=0.5), line(2, a=1.0, b=0.25), line(3, a=0.5)]
    assert score_rounds(lines).of(2) == (4 * 0.5 + 2 * 0.25) / 6


def test_a_client_that_joins_later_counts_with_its_first_number():
    lines = [line(1, a=0.5), line(2, a=0.75), line(3, a=0.5, d=0.25)]
    assert score_rounds(lines).dice["all"] == {1: (4 * 0.75 + 8 * 0.25) / 12, 2: (4 * 0.5 + 8 * 0.25) / 12}


@given(LINES)
def test_a_score_is_the_mean_over_the_images_of_all_clients(lines):
    scores = score_rounds(lines).dice["all"]
    reported = {
        (record["round"] - 1, client["client"]): client["received_val_dice"]
        for record in lines
        for client in record["clients"]
    }
    names = {client for _, client in reported}
    for round_, score in scores.items():
        images = []
        for client in names:
            before = [key for key in reported if key[1] == client and key[0] <= round_]
            after = [key for key in reported if key[1] == client and key[0] > round_]
            images += [reported[max(before) if before else min(after)]] * SIZES[client]
        assert score == pytest.approx(sum(images) / len(images))


@given(LINES, st.data())
def test_the_best_so_far_is_always_a_round_that_was_the_best_or_the_newest(lines, data):
    """The best checkpoint is therefore never one that was deleted before."""
    kept = set()
    for number in range(1, len(lines) + 1):
        kept.add(number - 1)
        best = score_rounds(lines[:number]).best(range(number))
        assert best is None or best in kept
        kept = {best} if best is not None else set()


@given(LINES)
def test_of_equal_rounds_the_latest_is_the_best_and_round_0_is_none(lines):
    scores = score_rounds(lines)
    found, all_scores = scores.best(range(100)), scores.dice["all"]
    if found is None:
        assert all_scores == {}
    else:
        assert found == max(one for one in all_scores if all_scores[one] == max(all_scores.values()))
        assert 0 not in all_scores


def test_small_lesions_have_a_score_of_their_own():
    lines = [
        {"round": 1, "clients": []},
        {"round": 2, "clients": [entry("a", 0.9, small=0.1), entry("b", 0.9)]},
        {"round": 3, "clients": [entry("a", 0.5, small=0.4)]},
    ]
    scores = score_rounds(lines)
    assert scores.dice["small"] == {1: 0.1, 2: 0.4}
    assert (scores.best([1, 2]), scores.best([1, 2], "small")) == (1, 2)
    assert scores.best_rounds([1, 2]) == [1, 2]
    assert scores.best_rounds([2]) == [2]


def test_patients_are_counted_once_for_each_client():
    assert score_rounds([line(1, a=0.1, b=0.2), line(2, a=0.1)], [examined(2, c=0.3)]).patients == 6


@pytest.mark.parametrize(
    "client",
    [
        {"client": "a", "received_val_dice": 0.5},  # of an earlier release
        {"client": "a", "received_val_dice": None, "n_val": 4},  # not finite when it was written
        {"client": "a", "received_val_dice": "0.5", "n_val": 4},
        {"client": "a", "received_val_dice": 0.5, "n_val": 0},
        {"client": "a", "rejection_reason": "late"},
        {"received_val_dice": 0.5, "n_val": 4},
        "a",
    ],
)
def test_lines_without_a_usable_validation_give_no_score(client):
    assert score_rounds([{"round": 1}, {"round": 2, "clients": [client]}]) == RoundScores(
        {"all": {}, "small": {}}, 0
    )
