import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.algorithm import Algorithm, Privacy
from flames_cli.core.federated.blends import MeanBlend, make_blend
from flames_cli.core.federated.coding import code, decode
from flames_cli.core.federated.privacy import (
    LEAST_VARIANCE,
    NoiseKey,
    PrivateMean,
    Release,
    clip_update,
    draw_normal,
)
from flames_cli.core.federated.reports import Entries, Moved, Report, State, count_releases_again
from flames_cli.core.federated.wire import as_received
from flames_cli.errors import FlamesError

FEDAVG = Algorithm(local_update="plain", groups="all", blend="mean", weight="uniform")
KEY = NoiseKey(bytes(range(32)))
ENTRIES = Entries(frozenset({"w"}), frozenset({"m", "v", "n"}), variances=frozenset({"v"}))
VALUES = hnp.arrays(np.float32, 4, elements=st.floats(-1000, 1000, width=32))
CLIPS = st.floats(1e-3, 1e3)
TINY = 1e-300


def model(w=0.0, v=1.0, n=3):
    w = np.broadcast_to(np.asarray(w, np.float32), (2, 2)).copy()
    return {"w": w, "m": np.float32(0.5) * w[0], "v": np.full(2, v, np.float32), "n": np.array(n)}


def norm(weights, start):
    moved = [np.float64(weights[name]) - start[name] for name in weights if weights[name].dtype.kind == "f"]
    return math.sqrt(sum(float((array**2).sum()) for array in moved))


def private_mean(start, privacy, reports, key=KEY, round_=1, group="all", entries=ENTRIES):
    blend = PrivateMean(start, entries, privacy, Release(key, round_, group))
    for number, weights in enumerate(reports):
        blend.add(Report(f"c{number}", "MRI", weights, 1))
    return blend.server()


@given(VALUES, VALUES, CLIPS)
def test_a_clipped_update_keeps_its_direction_and_is_no_longer_than_the_clip(start, trained, clip):
    before, after = {"w": start, "n": np.array(3)}, {"w": trained, "n": np.array(9)}
    sent = clip_update(after, before, clip)
    moved, full = sent["w"].astype(np.float64) - start, trained.astype(np.float64) - start
    rounding = 2.0**-23 * (np.linalg.norm(start) + np.linalg.norm(trained))
    assert np.linalg.norm(moved) <= clip * (1 + 1e-9) + rounding
    scale = min(1.0, clip / np.linalg.norm(full)) if full.any() else 1.0
    np.testing.assert_allclose(moved, scale * full, rtol=0, atol=rounding)
    assert sent["n"] == 3
    assert sent["w"].dtype == np.float32


def test_an_update_within_the_clip_is_sent_to_the_last_bit():
    start, trained = model(0.1), model(0.3)
    sent = clip_update(trained, start, 10.0)
    assert all(np.array_equal(sent[name], trained[name]) for name in ("w", "m", "v"))


def test_all_floats_are_clipped_together():
    sent = clip_update(model(3.0, v=5.0), model(), 0.5)
    assert norm(sent, model()) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_stay_so_that_the_server_rejects_them(bad):
    sent = clip_update(model(bad), model(), 1.0)
    refused = apply_round(
        State(0, {"all": model()}),
        [Report("bad", "MRI", sent, 1), Report("good", "MRI", model(0.1), 1)],
        replace(FEDAVG, privacy=Privacy(1.0, 1.0, 1e-5)),
        settings=RoundSettings(noise=KEY),
    ).rejected
    assert refused == {"bad": "'w' contains values that are not finite"}


@given(st.lists(st.tuples(VALUES, st.floats(0, 10, width=32)), min_size=1, max_size=5))
def test_without_noise_and_with_a_wide_clip_it_is_the_plain_mean(clients):
    reports = [model(w.reshape(2, 2), float(v) + 1) for w, v in clients]
    plain = MeanBlend(model(1.0), ENTRIES, "uniform")
    for weights in reports:
        plain.add(Report("", "", weights, 7))
    expected = plain.server()
    released = private_mean(model(1.0), Privacy(TINY, 1e200, 1e-5), reports)
    assert all(np.array_equal(released[name], expected[name]) for name in ("w", "m", "v"))
    assert released["n"] == 3


@given(st.lists(VALUES, min_size=2, max_size=4), CLIPS)
def test_a_client_moves_the_sum_by_the_clip_at_most(clients, clip):
    start = {"w": np.zeros(4)}
    reports = [{"w": values.astype(np.float64)} for values in clients]
    privacy, n = Privacy(TINY, clip, 1e-5), len(reports)
    entries = Entries.of(start)
    with_it = private_mean(start, privacy, reports, entries=entries)["w"] * n
    without = private_mean(start, privacy, reports[1:], entries=entries)["w"] * (n - 1)
    assert np.linalg.norm(with_it - without) <= clip * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 4])
def test_noise_is_normal_with_the_clip_times_the_multiplier_over_the_number_of_reports(n):
    start = {"w": np.zeros((3, 70_001))}
    released = private_mean(start, Privacy(2.0, 0.5, 1e-5), [start] * n, entries=Entries.of(start))["w"]
    noise = released.ravel() * n / (2.0 * 0.5)
    # The secret is fixed, so the test always gives the same result.
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert noise.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * noise.size))
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4 / math.sqrt(noise.size)


def test_the_same_reports_give_the_same_release_and_others_another_noise():
    start = {"w": np.zeros(50_000)}
    privacy, entries = Privacy(1.0, 1.0, 1e-5), Entries.of(start)
    other = {"w": np.zeros(50_000)}
    other["w"][0] = 1e-9
    released = private_mean(start, privacy, [start], entries=entries)["w"]
    assert np.array_equal(private_mean(start, privacy, [start], entries=entries)["w"], released)
    for changed in (
        private_mean(start, privacy, [other], entries=entries),
        private_mean(start, privacy, [start, start], entries=entries),
        private_mean(start, privacy, [start], round_=2, entries=entries),
        private_mean(start, privacy, [start], group="MRI", entries=entries),
        private_mean(start, privacy, [start], NoiseKey(bytes(32)), entries=entries),
    ):
        assert abs(np.corrcoef(changed["w"], released)[0, 1]) < 0.02


def test_two_entries_of_one_shape_have_noise_of_their_own():
    start = {"a": np.zeros(10_000), "b": np.zeros(10_000)}
    released = private_mean(start, Privacy(1.0, 1.0, 1e-5), [start], entries=Entries.of(start))
    assert abs(np.corrcoef(released["a"], released["b"])[0, 1]) < 0.04


def test_variances_stay_above_zero_whatever_the_noise():
    start = model(v=0.0)
    for round_ in range(20):
        released = private_mean(start, Privacy(1.0, 5.0, 1e-5), [start], round_=round_)
        assert (released["v"] >= np.float32(LEAST_VARIANCE)).all()


@pytest.mark.parametrize("wire", ["fp32", "fp16", "bf16"])
def test_a_clipped_report_is_taken_whatever_it_travelled_as_and_clipped_once_more(wire):
    rng = np.random.default_rng(0)
    server = {name: rng.normal(0, 10, 5000).astype(np.float32) for name in ("w", "bn.running_mean")}
    received = as_received(server, wire)
    trained = {name: array + rng.normal(0, 1, 5000).astype(np.float32) for name, array in received.items()}
    clipped = clip_update(trained, received, 0.5)
    coded = code(clipped, received, wire, {})
    arrived = decode(coded.arrays, coded.codes, wire, server)
    key, entries = NoiseKey(KEY.secret, wire), Entries.of(server)
    blend = PrivateMean(server, entries, Privacy(TINY, 0.5, 1e-5), Release(key, 1, "all"))
    report = Report("a", "MRI", arrived, 1)
    assert blend.rejection_reason(report) is None
    blend.add(report)
    begun = {**server, "bn.running_mean": received["bn.running_mean"]}
    assert norm(blend.server(), begun) <= 0.5 * (1 + 1e-6) + 2.0**-23 * norm(
        server, dict.fromkeys(server, 0.0)
    )


@pytest.mark.parametrize("wire", ["fp16", "bf16"])
def test_statistics_that_do_not_change_take_no_part_of_the_clip(wire):
    server = {
        "w": np.zeros(4, np.float32),
        "bn.running_var": np.full(4, 1000.3, np.float32),
    }
    received = as_received(server, wire)
    trained = {**received, "w": np.full(4, 0.125, np.float32)}
    coded = code(clip_update(trained, received, 0.25), received, wire, {})
    arrived = decode(coded.arrays, coded.codes, wire, server)
    entries = Entries.of(server)
    release = Release(NoiseKey(KEY.secret, wire), 1, "all")
    blend = PrivateMean(server, entries, Privacy(TINY, 0.25, 1e-5), release)

    blend.add(Report("a", "MRI", arrived, 1))

    assert coded.codes["bn.running_var"] == "same"
    assert blend.server()["w"] == pytest.approx(trained["w"])


def test_a_report_that_was_not_clipped_is_rejected_and_the_round_continues():
    privacy = Privacy(1.0, 0.5, 1e-5)
    state = State(4, {"all": model()}, releases=6)
    reports = [Report("a", "MRI", model(5.0), 1), Report("b", "US", clip_update(model(5.0), model(), 0.5), 1)]
    result = apply_round(
        state, reports, replace(FEDAVG, privacy=privacy), ENTRIES, settings=RoundSettings(noise=KEY)
    )
    assert result.accepted == ("b",)
    reason = result.rejected["a"]
    assert reason.startswith("its update has a norm of 10.6")
    assert reason.endswith("expected at most 0.5 (--dp-clip)")
    assert (result.state.round, result.state.releases) == (5, 7)
    # A private run stores no distances.
    assert result.state.clients["b"].moved == Moved()


def test_entries_that_are_not_shared_and_counters_stay_as_they_were():
    entries = replace(ENTRIES, shared=frozenset({"w", "n"}))
    sent = {"w": model(0.2)["w"], "n": np.array(99)}
    state = State(0, {"all": model()})
    private = replace(FEDAVG, privacy=Privacy(1.0, 1.0, 1e-5))
    server = apply_round(
        state, [Report("a", "MRI", sent, 1)], private, entries, settings=RoundSettings(noise=KEY)
    ).state.server["all"]
    assert [name for name in server if not np.array_equal(server[name], model()[name])] == ["w"]


def test_momentum_and_adam_step_from_the_released_model():
    reports = [Report("a", "MRI", clip_update(model(1.0), model(), 1.0), 1)]
    for changes in ({"server_momentum": 0.9}, {"server": "adam"}):
        states = []
        for noise in (1.0, TINY):
            private = replace(FEDAVG, privacy=Privacy(noise, 1.0, 1e-5), **changes)
            begun, settings = State(0, {"all": model()}), RoundSettings(noise=KEY)
            states.append(apply_round(begun, reports, private, ENTRIES, settings=settings).state)
        blurred, bare = (next(iter(state.optimiser_state["all"].values()))["w"] for state in states)
        assert not np.array_equal(blurred, bare)


def test_an_average_is_made_of_released_models_only():
    private = replace(FEDAVG, privacy=Privacy(1.0, 1.0, 1e-5), ema=0.5)
    states = [State(0, {"all": model()})]
    for _ in range(2):
        sent = clip_update(model(1.0), states[-1].server["all"], 1.0)
        reports = [Report("a", "MRI", sent, 1)]
        states.append(
            apply_round(states[-1], reports, private, ENTRIES, settings=RoundSettings(noise=KEY)).state
        )
    _, one, two = (state.server["all"]["w"].astype(float) for state in states)
    used = states[-1].final_server_model("all", "MRI")["w"]
    np.testing.assert_allclose(used, (one + 2 * two) / 3, rtol=1e-5, atol=1e-6)


def test_a_plain_algorithm_releases_nothing_and_privacy_needs_a_key():
    state, reports = State(0, {"all": model()}), [Report("a", "MRI", model(1.0), 1)]
    assert apply_round(state, reports, FEDAVG, ENTRIES).state.releases == 0
    with pytest.raises(ValueError, match="a secret of 32 bytes, got 0"):
        NoiseKey(b"")
    with pytest.raises(ValueError, match="key to draw noise from"):
        make_blend(replace(FEDAVG, privacy=Privacy(1.0, 1.0, 1e-5)), model(), ENTRIES)


def test_rounds_that_are_done_again_are_paid_for_again():
    assert count_releases_again(State(4, {}, releases=4), 2) == State(4, {}, releases=6)


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.5), (1.0, math.inf, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 1.0)])
def test_privacy_needs_numbers_that_make_sense(values):
    with pytest.raises(FlamesError, match="expected a number"):
        Privacy(*values)


def test_the_secret_is_in_no_representation():
    assert "secret" not in repr(Release(KEY, 1, "all"))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_requested_number_of_values_is_drawn(n):
    assert draw_normal(b"seed", n).shape == (n,)
