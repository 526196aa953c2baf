import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.candidates import Candidates
from flames_cli.core.federated.choice import (
    CANDIDATES,
    EQUAL,
    FAR,
    FLAMES,
    NEAR,
    OWN,
    Choice,
    Preference,
    own_share,
)
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.reports import State
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.fed.algorithms import ALGORITHMS
from tests.support.asserts import assert_same
from tests.support.reports import make_model, make_report, start_state

ADAPTIVE, PLAIN_FLAMES = ALGORITHMS["flames-adaptive"], ALGORITHMS["flames"]
VALUES = hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
CLIENTS = st.lists(st.tuples(VALUES, st.integers(1, 10_000)), min_size=2, max_size=6)
LEVEL = dict.fromkeys(CANDIDATES, 0.5)


def candidates_of(clients, reported=None):
    """Return the candidates of clients a, b, … with these (values, number of images)."""
    own = {chr(97 + i): {"w": values} for i, (values, _) in enumerate(clients)}
    preferences = {chr(97 + i): Preference(n) for i, (_, n) in enumerate(clients)}
    return Candidates(own, preferences, set(own) if reported is None else reported)


@given(CLIENTS)
def test_the_first_candidate_is_the_blend_of_flames_bit_for_bit(clients):
    found = candidates_of(clients)
    personalised, _ = blend_flames([{"w": values} for values, _ in clients], [n for _, n in clients])
    for index, expected in enumerate(personalised):
        offer = found.offer(chr(97 + index))
        assert_same(offer.candidate(FLAMES), expected)
        assert_same(offer.candidate(OWN), {"w": clients[index][0]})
        assert_same(found.expected(chr(97 + index)), expected)


@given(CLIENTS, st.sampled_from([NEAR, FAR, EQUAL]))
def test_other_shares_follow_the_definition(clients, name):
    found, share = candidates_of(clients), own_share(name, len(clients))
    for index, (values, _) in enumerate(clients):
        others = [one for number, one in enumerate(clients) if number != index]
        total = sum(1 / n for _, n in others)
        mean = sum(1 / n / total * one.astype(np.float64) for one, n in others)
        expected = share * values.astype(np.float64) + (1 - share) * mean
        made = found.offer(chr(97 + index)).candidate(name)["w"]
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-4)


@given(st.lists(st.floats(0, 10, width=32), min_size=2, max_size=5), st.sampled_from(CANDIDATES))
def test_no_candidate_has_a_negative_variance(values, name):
    own = {str(i): {"norm.running_var": np.full(2, one, np.float32)} for i, one in enumerate(values)}
    found = Candidates(own, {client: Preference(5) for client in own}, set(own))
    assert all((found.offer(client).candidate(name)["norm.running_var"] >= 0).all() for client in own)


def test_an_absent_client_is_blended_with_those_that_reported():
    clients = [(np.full(3, value, np.float32), n) for value, n in ((1, 10), (3, 10), (8, 99))]
    found = candidates_of(clients, reported={"a", "b"})
    alpha = 0.1 + 1 / 3
    np.testing.assert_allclose(
        found.offer("c").candidate(FLAMES)["w"], alpha * 8 + (1 - alpha) * 2, rtol=1e-6
    )
    np.testing.assert_allclose(found.offer("a").candidate(FLAMES)["w"], 0.6 * 1 + 0.4 * 3, rtol=1e-6)


def test_a_client_without_others_or_without_weights_has_no_choice():
    alone = candidates_of([(np.ones(3, np.float32), 4)])
    assert not alone.offers("a")
    assert alone.offer("a") is None
    assert_same(alone.expected("a"), {"w": np.ones(3, np.float32)})
    two = candidates_of([(np.ones(3, np.float32), 4), (np.zeros(3, np.float32), 4)])
    assert two.offer("new") is None


def test_equal_shares_of_clients_of_one_size_are_the_plain_mean():
    clients = [(np.full(3, value, np.float32), 7) for value in (1, 4, 10)]
    for client in "abc":
        made = candidates_of(clients).offer(client).candidate(EQUAL)
        np.testing.assert_allclose(made["w"], 5.0, rtol=1e-6)


def round_of(state, *reports, algorithm=ADAPTIVE, limit=None):
    return apply_round(state, reports, algorithm, settings=RoundSettings(limit=limit or NormLimit()))


def first_round():
    """Return the state after a round of two brain clients with the values 1 and 3."""
    return round_of(start_state(ADAPTIVE), make_report("brain-1", 1), make_report("brain-2", 3, 30)).state


def test_the_server_stores_own_weights_and_flames_mean():
    state = first_round()
    flames = apply_round(
        start_state(PLAIN_FLAMES), [make_report("brain-1", 1), make_report("brain-2", 3, 30)], PLAIN_FLAMES
    ).state
    assert_same(state.server["MRI"], flames.server["MRI"])
    assert_same(state.personal["brain-1"], make_model(1))
    assert_same(state.final_model_for("brain-1", "MRI"), flames.final_model_for("brain-1", "MRI"))
    assert state.preferences == {"brain-1": Preference(10), "brain-2": Preference(30)}


def test_a_report_needs_the_choice_that_was_offered_and_no_other():
    early = round_of(start_state(ADAPTIVE), make_report("brain-1", 1, choice=Choice(OWN)))
    assert early.rejected == {"brain-1": "it reports a choice of its model, expected none"}
    late = round_of(first_round(), make_report("brain-1", 1))
    assert late.rejected == {"brain-1": "it reports no choice of its model, expected one"}


@pytest.mark.parametrize(("pick", "start"), [(OWN, 1.0), (EQUAL, 2.0), (FLAMES, 1.8)])
def test_the_distance_is_measured_from_the_model_that_the_client_chose(pick, start):
    state = first_round()
    result = round_of(state, make_report("brain-1", 4, choice=Choice(pick)), limit=NormLimit(10.0))
    moved = result.state.clients["brain-1"].moved.norms["weights"]
    assert moved == pytest.approx((4 - start) * np.sqrt(9), rel=1e-5)


def test_evidence_of_accepted_reports_changes_the_next_choice_of_others():
    state, good = first_round(), {**LEVEL, EQUAL: 0.9}
    for _ in range(2):
        state = round_of(state, make_report("brain-2", 3, 30, choice=Choice(FLAMES, 20, good))).state
    assert state.preferences["brain-2"].gains[EQUAL] == pytest.approx(0.4)
    assert state.candidates("MRI").offer("brain-1").prior.pooled[EQUAL] == pytest.approx(0.4 * 20 / 28)
    # brain-1 was absent, and has not chosen yet: the others' result decides.
    expected = state.candidates("MRI").offer("brain-1").candidate(EQUAL)
    assert_same(state.final_model_for("brain-1", "MRI"), expected)


def test_a_rejected_report_leaves_no_evidence():
    state = first_round()
    bad = make_report("brain-1", np.nan, choice=Choice(OWN, 20, {**LEVEL, OWN: 0.9}))
    after = round_of(state, bad, make_report("brain-2", 3, 30, choice=Choice(OWN))).state
    assert after.preferences["brain-1"] == state.preferences["brain-1"]


def test_a_state_of_another_strategy_has_no_candidates():
    assert not State(0, {"MRI": make_model(1)}).candidates("MRI").offers("brain-1")
