import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import Entries, Moved, Report, State
from flames_cli.core.federated.update_norms import NO_LIMIT, NormLimit, distance, known_moves

ENTRIES = Entries(frozenset({"w"}), frozenset({"norm.running_mean"}))
START = {"w": np.ones(4, np.float32), "norm.running_mean": np.zeros(2, np.float32), "n": np.array(0)}
FIVE = NormLimit(5.0)
FEDAVG = Algorithm(local_update="plain", groups="all", blend="mean")


def report_of(client, step, steps=1, mean=0.1, **more):
    weights = {
        "w": START["w"] + np.float32(step),
        "norm.running_mean": START["norm.running_mean"] + np.float32(mean),
        "n": np.array(7),
    }
    return Report(client, "MRI", weights, 10, steps, **more)


def round_of(state, steps, limit=FIVE):
    reports = [report_of(client, step) for client, step in steps.items()]
    return apply_round(state, iter(reports), FEDAVG, ENTRIES, settings=RoundSettings(limit=limit))


def moved(norm, steps=1, **parts):
    return Moved({"weights": norm, **parts}, steps)


def test_a_report_is_measured_by_part_and_by_learning_rate():
    report = report_of("a", 0.5, 3, control={"w": np.full(4, 3.0)}, style={"w": START["w"] + 2})
    limit = NormLimit(5.0, {"a": 0.5})
    assert limit.measure(report, START, ENTRIES) == Moved(
        {
            "weights": 2.0,
            "statistics": pytest.approx(math.sqrt(2) / 10, rel=1e-5),
            "control variate": 18.0,
            "image decoder": 8.0,
        },
        3,
    )


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50))
def test_a_distance_is_the_euclidean_one(values):
    array = np.array(values, np.float32)
    expected = np.linalg.norm(array.astype(np.float64))
    assert distance({"w": array}, {}) == pytest.approx(expected, rel=1e-12)
    assert distance({"w": array}, {"w": array}) == 0


def test_counters_do_not_count():
    assert distance({"n": np.array(10**9)}, {"n": np.array(0)}) == 0


def test_no_client_is_too_far_without_a_limit_or_other_clients():
    assert NO_LIMIT.rejection_reason(report_of("a", 1), moved(1e30), [moved(1.0)] * 5) is None
    assert NormLimit(5.0).rejection_reason(report_of("a", 1), moved(1e30), []) is None


def test_the_reason_states_how_far_a_client_moved():
    reason = NormLimit(5.0).rejection_reason(
        report_of("a", 1), moved(60.0), [moved(1.0), moved(2.0), moved(3.0)]
    )
    assert reason == (
        "its weights moved 30 times as far as the median of 4 clients', "
        "expected at most 5 times (--max-update-norm)"
    )


@pytest.mark.parametrize("part", ["statistics", "control variate", "image decoder"])
def test_every_part_is_judged_by_itself(part):
    others = [moved(1.0, **{part: 1.0})] * 2
    reason = NormLimit(5.0).rejection_reason(report_of("a", 1), moved(1.0, **{part: 6.0}), others)
    assert reason is not None
    assert reason.startswith(f"its {part} moved 6 times")


def test_more_steps_may_go_further_and_few_steps_no_less():
    others = [moved(1.0, steps=10)] * 3
    limit = NormLimit(5.0)
    assert limit.rejection_reason(report_of("a", 1, steps=100), moved(49.0, steps=100), others) is None
    assert limit.rejection_reason(report_of("a", 1, steps=100), moved(51.0, steps=100), others)
    assert limit.rejection_reason(report_of("a", 1, steps=1), moved(4.9, steps=1), others) is None


@given(
    st.lists(st.floats(0.5, 2.0), min_size=3, max_size=9),
    st.floats(1e3, 1e30),
    st.randoms(use_true_random=False),
)
def test_honest_clients_stay_and_the_one_far_out_goes(honest, far, order):
    steps = {f"c{i}": step for i, step in enumerate(honest)} | {"bad": far}
    names = list(steps)
    order.shuffle(names)
    result = round_of(State(0, {"all": START}), {name: steps[name] for name in names})
    assert set(result.rejected) == {"bad"}
    expected = np.mean([np.float32(START["w"][0] + np.float32(step)) for step in honest], dtype=np.float64)
    np.testing.assert_allclose(result.state.server["all"]["w"], expected, rtol=1e-6)


def test_of_two_the_one_that_moved_less_is_taken():
    result = round_of(State(0, {"all": START}), {"a": 1.0, "b": 1e3})
    assert set(result.rejected) == {"b"}


def test_one_alone_is_taken_as_it_comes():
    assert round_of(State(0, {"all": START}), {"a": 1e3}).accepted == ("a",)


def test_a_client_that_did_not_move_makes_no_other_look_far():
    result = round_of(State(0, {"all": START}), {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0})
    assert not result.rejected


def test_later_rounds_compare_with_the_last_reports_taken():
    first = round_of(State(0, {"all": START}), {"a": 1.0, "b": 1.2, "c": 0.8})
    later = round_of(first.state, {"c": 1e3})
    assert set(later.rejected) == {"c"}
    known = known_moves(later.state.clients, "b")
    assert {client: last.moved.norms["weights"] for client, last in known.items()} == {"a": 2.0, "c": 1.6}


def test_the_only_client_is_not_compared_with_its_own_past():
    first = round_of(State(0, {"all": START}), {"a": 0.01})
    assert round_of(first.state, {"a": 5.0}).accepted == ("a",)


def test_more_steps_allow_at_most_ten_times_the_distance():
    reason = NormLimit(5.0).rejection_reason(report_of("a", 1, 10**9), moved(51.0, 10**9), [moved(1.0)] * 3)
    assert reason is not None
    assert reason.startswith("its weights moved 5.1 times")


def test_statistics_do_not_depend_on_the_learning_rate():
    limit = NormLimit(5.0, {"a": 1.0, "b": 1.0, "c": 1e-3})
    result = round_of(State(0, {"all": START}), {"a": 1.0, "b": 1.0, "c": 1e-3}, limit)
    assert not result.rejected


def of_two_modalities(state, mri, us, means=(0.1, 0.1)):
    """Run a round with a model for each modality; steps by client."""
    reports = [report_of(client, step, mean=means[0]) for client, step in mri.items()]
    reports += [replace(report_of(client, step, mean=means[1]), modality="US") for client, step in us.items()]
    algorithm = Algorithm(local_update="plain", groups="modality", blend="mean")
    return apply_round(state, reports, algorithm, ENTRIES, settings=RoundSettings(limit=FIVE))


def test_the_first_client_of_a_modality_may_come_when_the_others_hardly_move_any_more():
    state = State(0, {"MRI": START, "US": START})
    honest = dict.fromkeys("abc", 1.0)
    trained = of_two_modalities(state, honest, {}, (0.001, 0.1)).state
    assert not of_two_modalities(trained, honest, {"d": 1.0}, (0.001, 0.1)).rejected


@pytest.mark.parametrize("started", [False, True])
def test_a_bad_client_among_the_first_two_of_a_modality_is_found(started):
    state = State(0, {"MRI": START, "US": START})
    honest = dict.fromkeys("abc", 1.0)
    if started:
        state = of_two_modalities(state, honest, {}).state
    for us in ({"d": 1.0, "e": 1e3}, {"e": 1e3, "d": 1.0}):
        assert set(of_two_modalities(state, honest, us).rejected) == {"e"}


def test_a_client_that_hardly_moves_does_not_cause_a_rejection():
    state = State(0, {"MRI": START, "US": START})
    assert not of_two_modalities(state, dict.fromkeys("abc", 1.0), {"d": 1e-3, "e": 1.0}).rejected


def test_reports_are_held_only_until_others_are_known():
    alive = []

    def reports(count):
        for number in range(count):
            alive.append(number)
            yield report_of(f"c{number}", 1.0)
            alive.append("asked again")

    first = apply_round(
        State(0, {"all": START}), reports(3), FEDAVG, ENTRIES, settings=RoundSettings(limit=NormLimit(5.0))
    )
    assert first.accepted == ("c0", "c1", "c2")
    second = apply_round(
        first.state, reports(3), FEDAVG, ENTRIES, settings=RoundSettings(limit=NormLimit(5.0))
    )
    assert second.accepted == first.accepted


def test_a_limit_that_no_client_exceeds_changes_no_bit():
    state = State(0, {"all": START})
    steps = {"b": 1.0, "a": 1.2, "c": 0.8}
    with_limit, without = round_of(state, steps), round_of(state, steps, NO_LIMIT)
    for name, array in without.state.server["all"].items():
        np.testing.assert_array_equal(with_limit.state.server["all"][name], array)
    assert with_limit.state.clients == without.state.clients


def test_a_client_is_measured_from_its_own_model():
    algorithm = Algorithm(local_update="plain", groups="all", blend="flames")
    own = {**START, "w": START["w"] + np.float32(100)}
    state = State(3, {"all": START}, {"a": own})
    near = replace(report_of("a", 1.0), weights={**own, "w": own["w"] + np.float32(1)})
    result = apply_round(
        state, [near, report_of("b", 1.0)], algorithm, ENTRIES, settings=RoundSettings(limit=NormLimit(5.0))
    )
    assert result.accepted == ("a", "b")


def test_a_second_report_is_rejected_while_the_first_one_waits():
    reports = [report_of("a", 1.0), report_of("a", 1.0), report_of("b", 1.0)]
    result = apply_round(
        State(0, {"all": START}), reports, FEDAVG, ENTRIES, settings=RoundSettings(limit=NormLimit(5.0))
    )
    assert result.accepted == ("a", "b")
    assert result.rejected == {"a": "it reported twice in one round"}


def test_a_negative_variance_is_rejected():
    weights = {"bn.running_var": np.ones(3, np.float32)}
    entries = Entries(frozenset(), frozenset(weights), variances=frozenset(weights))
    bad = Report("a", "MRI", {"bn.running_var": np.array([1, -1e-3, 1], np.float32)}, 1)
    good = Report("b", "MRI", weights, 1)
    result = apply_round(State(0, {"all": weights}), [bad, good], FEDAVG, entries)
    assert result.rejected == {"a": "'bn.running_var' contains a negative variance"}


def test_a_group_too_small_for_its_mean_is_unchanged_and_its_clients_are_rejected():
    algorithm = Algorithm(local_update="plain", groups="modality", blend="mean", aggregation="krum")
    state = State(0, {"MRI": START, "US": START})
    reports = [report_of(client, 1.0) for client in "abc"]
    reports += [replace(report_of(client, 1.0), modality="US") for client in "de"]
    result = apply_round(state, reports, algorithm, ENTRIES)
    assert result.accepted == ("a", "b", "c")
    assert result.rejected == dict.fromkeys("de", "krum needs 3 good reports to tolerate 0 bad, there are 2")
    assert result.unchanged_groups == ("US",)
    assert result.state.server["US"] is START
    assert "d" not in result.state.clients
