"""Rounds with secure aggregation: their models are those of plain rounds, within a bound that follows from
the fixed point and float32, and the server's messages have nothing of a single client."""

from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.reports import Entries
from flames_cli.fed.records import unpack_weights
from flames_cli.fed.secure.messages import WORDS
from tests.support.asserts import assert_same_state, without_timings
from tests.support.federation import drift, make_profile, run_federation
from tests.support.secure import TRAIN, blend_bound, run_secure, server_bound

CLIENTS = {"m1": ("MRI", 30), "m2": ("MRI", 10), "m3": ("MRI", 4)}
CLIENTS |= {"u1": ("US", 5), "u2": ("US", 20), "u3": ("US", 7), "u4": ("US", 1)}
PROFILES = [make_profile(client, modality, n) for client, (modality, n) in CLIENTS.items()]
MEANS = ["fedavg", "fedavg-modality", "fedgs", "fedprox", "fedadam"]


def gap(one, other):
    """Return the largest difference between two models."""
    return max(float(np.abs(one[name] - array.astype(float)).max()) for name, array in other.items())


def members(modality):
    return {client: n for client, (its, n) in CLIENTS.items() if its == modality}


def test_clients_of_flames_make_the_models_of_a_plain_run_themselves(tmp_path):
    secure, plain = run_secure(PROFILES, tmp_path, rounds=4), run_federation(PROFILES, rounds=4)
    # The training multiplies what it received by 0.9, and so does it with the error of the round before.
    allowed = dict.fromkeys(CLIENTS, 0.0)
    for round_ in (2, 3, 4):
        reports = {client: report for (client, r), report in secure.reports.items() if r == round_ - 1}
        largest = max(float(np.abs(one.weights["conv.weight"]).max()) for one in reports.values())
        for modality in ("MRI", "US"):
            counts = members(modality)
            before = 0.9 * max(allowed[client] for client in counts)
            factors = {client: min(counts.values()) / n for client, n in counts.items()}
            for client, factor in factors.items():
                bound = blend_bound(largest, factor, sum(factors.values()), len(counts))
                allowed[client] = before + bound
                found = secure.starts[client, round_]
                expected = plain.received(round_)[client]
                assert gap(found, expected) <= allowed[client] < 1e-5
                assert found["count"] == expected["count"]
        for group, model in plain.saved[round_ - 2][0].server.items():
            slack = 0.9 * max(allowed[client] for client in members(group))
            assert gap(secure.saved[round_ - 2][0].server[group], model) <= server_bound(largest) + slack


@pytest.mark.parametrize("algorithm", MEANS)
def test_a_secure_mean_is_the_plain_mean(algorithm, tmp_path):
    secure, plain = (
        run_secure(PROFILES, tmp_path, algorithm, rounds=3),
        run_federation(PROFILES, algorithm, rounds=3),
    )
    largest = max(float(np.abs(one.weights["conv.weight"]).max()) for one in secure.reports.values())
    steps = 1 + 0.9 + 0.81  # the error of each round is multiplied by 0.9 in the next
    # Adam moves by at most 0.74 of a difference in the blend, for rates of its first rounds and its constant
    # of 0.001, and keeps the error of the old model: 0.74, 2.5 and 6.8 times the error of one mean.
    gain = 6.8 / steps if algorithm == "fedadam" else 1
    for group, model in plain.state.server.items():
        assert gap(secure.state.server[group], model) <= gain * steps * server_bound(largest)
        assert secure.state.server[group]["count"] == model["count"]
    assert (secure.state.personal, secure.state.sums) == ({}, ())


def test_masks_change_no_bit_of_the_models(tmp_path):
    one, other = run_secure(PROFILES, tmp_path / "a"), run_secure(PROFILES, tmp_path / "b")
    assert_same_state(one.state, other.state)
    assert without_timings(one.records) == without_timings(other.records)
    words = [
        unpack_weights(reply, WORDS)[WORDS]
        for _, _, reply in (*one.replies, *other.replies)
        if WORDS in reply.content
    ]
    assert len({each.tobytes() for each in words}) == len(words) == 4 * len(PROFILES)


@pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality"])
def test_rounds_by_modality_have_the_sums_and_models_of_rounds_in_step_bit_for_bit(algorithm, tmp_path):
    step = run_secure(PROFILES, tmp_path / "step", algorithm, rounds=3)
    own = run_secure(PROFILES, tmp_path / "own", algorithm, rounds=3, by_modality=True)
    assert_same_state(own.state, step.state)
    assert own.state.clients == step.state.clients
    assert [(one.group, one.round, one.clients, one.total) for one in own.state.sums] == [
        (one.group, one.round, one.clients, one.total) for one in step.state.sums
    ]
    assert [record["groups"] for record in own.records] == [record["groups"] for record in step.records]


@pytest.mark.parametrize("wire", ["fp16", "bf16"])
def test_words_of_32_bits_round_a_sum_by_2_to_the_minus_17_for_each_client(wire, tmp_path):
    found = run_secure(PROFILES, tmp_path, rounds=2, wire_dtype=wire)
    for group in ("MRI", "US"):
        reports = [found.reports[client, 2].weights["conv.weight"] for client in members(group)]
        exact = np.mean([one.astype(float) for one in reports], axis=0)
        error = np.abs(found.state.server[group]["conv.weight"] - exact).max()
        assert error <= 2.0**-17 + 2.0**-23 * np.abs(exact).max()
    words = [unpack_weights(reply, WORDS)[WORDS] for action, _, reply in found.replies if action == TRAIN]
    assert {one.dtype for one in words} == {np.dtype(np.uint32)}


def test_entries_that_are_not_shared_stay_as_they_are_and_frozen_ones_keep_their_bits(tmp_path):
    third = np.full(5, 1 / 3, np.float32)
    initial = {
        "conv.weight": np.ones((2, 3), np.float32),
        "style": third,
        "frozen": third,
        "count": np.array(0),
    }
    entries = Entries(
        trainable=frozenset({"conv.weight", "frozen"}),
        norm=frozenset(),
        shared=frozenset({"conv.weight", "frozen", "count"}),
        frozen=frozenset({"frozen"}),
    )

    def train(request, weights, who):
        assert "style" not in weights
        moved = drift(request, weights, who)
        return replace(moved, weights={**moved.weights, "frozen": weights["frozen"]})

    found = run_secure(PROFILES, tmp_path, rounds=3, train=train, initial=initial, entries=entries)
    for model in found.state.server.values():
        assert model["style"].tobytes() == model["frozen"].tobytes() == third.tobytes()
    for (_, round_), start in found.starts.items():
        assert set(start) == {"conv.weight", "frozen", "count"}
        assert start["frozen"].tobytes() == third.tobytes(), round_


def test_a_server_with_momentum_and_an_average_does_the_same_with_sums(tmp_path):
    changes = {"server_momentum": 0.5, "ema": 0.5}
    options = {"algorithm": "fedavg", "rounds": 3}
    found = run_secure(PROFILES, tmp_path, changes=changes, **options)
    kinds = found.state.optimiser_state["all"]
    assert set(kinds) == {"momentum", "ema", "ema_rounds"}
    assert int(kinds["ema_rounds"]["rounds"]) == 3
    reports = [found.reports[client, 1] for client in CLIENTS]
    mean = np.average(
        [one.weights["conv.weight"] for one in reports], axis=0, weights=[one.n_examples for one in reports]
    )
    np.testing.assert_allclose(found.saved[0][0].server["all"]["conv.weight"], mean, atol=1e-6)
