"""Choice of the round that a command takes, and its reason."""

from dataclasses import replace

import pytest

from flames_cli.config import EvaluateConfig, FederateConfig, check_section
from flames_cli.core.federated.best_round import RoundScores
from flames_cli.errors import FlamesError
from flames_cli.stages.rounds import Rounds, choose_round, read_passes, reason_for_last_only, rounds_to_keep
from flames_cli.store.files.atomic import write_json
from flames_cli.store.runs import RunFolder
from flames_cli.store.schema import FINAL_MODELS, stamp

SCORES = RoundScores({"all": {17: 0.612, 20: 0.4, 24: 0.58}, "small": {17: 0.1, 20: 0.3, 24: 0.2}}, 31)
ROUNDS = Rounds("one", [17, 20, 23, 24], SCORES, frozenset({17, 20, 24}))
FEW = replace(ROUNDS, scores=replace(SCORES, patients=9))
NO_SCORES = replace(ROUNDS, scores=RoundScores())
PRIVATE = replace(ROUNDS, only_last=reason_for_last_only(FederateConfig(dp_noise=1.0, dp_clip=1.0)))
STYLES = replace(ROUNDS, only_last=reason_for_last_only(FederateConfig(share="content")))

CHOICES = {
    "default": (
        ROUNDS,
        None,
        17,
        "the best of 24 rounds by 31 validation patients (mean Dice of their images 0.612; last",
    ),
    "best": (FEW, "best", 17, "by 9 validation patients"),
    "small": (ROUNDS, "best-small", 20, "the best of 24 rounds for small lesions by 31 validation patients"),
    "few": (FEW, None, 24, "since 9 validation patients are too few to choose one (at least 10)"),
    "none": (NO_SCORES, None, 24, "the run has no numbers of validation patients"),
    "uncounted": (
        replace(ROUNDS, scores=replace(SCORES, patients=0)),
        None,
        24,
        "the run has no numbers of validation patients",
    ),
    "last": (ROUNDS, "last", 24, "as requested"),
    "number": (ROUNDS, 23, 23, "as requested"),
    "private": (PRIVATE, None, 24, "the last round, since --dp-noise does not cover"),
    "styles": (STYLES, None, 24, "the last round, since with --share content"),
    "styles, last": (STYLES, 24, 24, "as requested"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_round_is_chosen_and_the_reason_is_said(name):
    rounds, wanted, expected, why = CHOICES[name]
    chosen = choose_round(rounds, wanted)
    assert (chosen.round, chosen.last) == (expected, 24)
    assert why in chosen.why


ERRORS = {
    "not stored": (ROUNDS, 18, r"got --round 18, and run 'one' stores the rounds 17, 20, 23, 24; pass one"),
    "private": (
        PRIVATE,
        "best",
        r"got --round best, and run 'one' offers only its last round 24: --dp-noise",
    ),
    "styles": (STYLES, 17, r"got --round 17, and run 'one' offers only its last round 24: with --share"),
    "no score": (
        NO_SCORES,
        "best",
        r"no stored round of run 'one' was validated on images; pass --round last",
    ),
    "no small": (NO_SCORES, "best-small", r"was validated on images with small lesions; pass"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_round_that_cannot_be_taken_is_an_error(name):
    rounds, wanted, message = ERRORS[name]
    with pytest.raises(FlamesError, match=message):
        choose_round(rounds, wanted)


def test_the_last_round_may_be_the_best():
    best = choose_round(replace(ROUNDS, candidates=frozenset({20, 24})), None)
    assert (best.round, best.asked) == (24, "best")
    assert best.why == "the best of 24 rounds by 31 validation patients (mean Dice of their images 0.580)"


def test_one_round_is_not_the_best_of_several():
    scores = RoundScores({"all": {1: 0.5}}, 31)
    only = choose_round(Rounds("one", [1], scores, frozenset({1})), None)
    assert only.why == "the only round by 31 validation patients (mean Dice of their images 0.500)"


@pytest.mark.parametrize(("typed", "read"), [("best", "best"), ("17", 17), (3, 3), (None, None)])
def test_a_round_is_a_rule_or_a_number(typed, read):
    assert check_section(EvaluateConfig, {"round": typed}).round == read


@pytest.mark.parametrize("typed", ["0", 0, -1, "first", "1.5", True, ""])
def test_other_rounds_are_rejected(typed):
    with pytest.raises(
        FlamesError, match="round: a round should be best, best-small, last or a number of 1 or"
    ):
        check_section(EvaluateConfig, {"round": typed})


def test_reports_of_the_last_pass_count_only_for_the_same_last_round(tmp_path):
    run = RunFolder(tmp_path)
    lines = [{"round": 1, "clients": []}, {"round": 2, "clients": []}]
    assert read_passes(run, lines) == []
    earlier = {"round": 1, "clients": [], "missing": {}}
    content = {**stamp(FINAL_MODELS), "round": 2, "clients": [], "missing": {}}
    write_json(run.final_models, {**content, "earlier": [earlier]})
    assert [one["round"] for one in read_passes(run, lines)] == [2, 1]
    assert read_passes(run, [*lines, {"round": 3, "clients": []}]) == []
    write_json(run.final_models, {**content, "version": 1})
    assert [one["round"] for one in read_passes(run, lines)] == [2], "version 1 has no earlier rounds"
    write_json(run.final_models, {**content, "earlier": [{"round": "1"}]})
    with pytest.raises(FlamesError, match="has missing entries; delete it"):
        read_passes(run, lines)


def test_a_run_that_offers_its_last_round_only_keeps_no_best_ones():
    lines = [
        {"round": 2, "clients": [{"client": "a", "received_val_dice": 0.5, "n_val": 1}]},
    ]
    assert rounds_to_keep(lines, [1, 2], "") == [1]
    assert rounds_to_keep(lines, [1, 2], "private") == []
