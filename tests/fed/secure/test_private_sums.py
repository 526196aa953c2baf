"""Secure aggregation with noise that the clients add in shares: no server, and no client, sees a sum without
enough of it."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.core.federated.reports import Report
from flames_cli.errors import FlamesError
from flames_cli.fed.node import Declined
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.fed.secure.client import check_noise
from flames_cli.fed.secure.terms import SumTerms
from flames_cli.secagg.fixed_point import FIXED_POINTS
from tests.support.federation import make_profile
from tests.support.secure import UNMASK, run_secure

PROFILES = [make_profile(f"c{number}", "MRI", 3 * number) for number in range(1, 6)]
PRIVACY = Privacy(0.8, 0.5, 1e-5)
N = 20_000
START = {"w": np.linspace(-1, 1, N, dtype=np.float32), "count": np.array([4])}


@pytest.fixture(autouse=True)
def _accountant():
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")


def report(profile, weights):
    return Report(profile.client, profile.modality, weights, profile.n_train, 1, {"train_loss": 0.5})


def stand_still(request, weights, profile):
    return report(profile, {**weights, "count": weights["count"] + 1})


def run_private(folder, algorithm="fedavg-modality", privacy=PRIVACY, train=stand_still, **more):
    changes = {"privacy": privacy, "weight": "uniform"}
    more = {"initial": START, **more}
    return run_secure(PROFILES, folder, algorithm, train=train, changes=changes, **more)


def noise_of(run, number=0, start=START):
    return (run.saved[number][0].server["MRI"]["w"].astype(float) - start["w"]).ravel()


@pytest.mark.parametrize("wire", ["fp32", "fp16"])
def test_the_model_of_clients_that_stand_still_is_noise_of_the_right_size(wire, tmp_path):
    start = {**START, "w": np.zeros(N, np.float32)}
    run = run_private(tmp_path, rounds=1, initial=start, wire_dtype=wire)
    fixed = FIXED_POINTS[64 if wire == "fp32" else 32]
    sensitivity = PRIVACY.clip + math.sqrt(N) / 2 * 2.0**-fixed.fraction
    # Four of five clients may be enough for a sum, so three shares have Z·Δ; all five were in this one.
    deviation = PRIVACY.noise * sensitivity * math.sqrt(5 / 3) / 5
    assert kstest(noise_of(run, start=start) / deviation, "norm").pvalue > 1e-4
    assert noise_of(run, start=start).std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * N))
    assert run.state.server["MRI"]["count"] == START["count"], "counters do not change"
    assert run.records[0]["epsilon"] == privacy_spent(PRIVACY, 1)["epsilon"]


def test_noise_is_new_in_every_round_and_run_whatever_the_seed(tmp_path):
    one, other = run_private(tmp_path / "a"), run_private(tmp_path / "b", rounds=1)
    first, second = noise_of(one), noise_of(one, 1) - noise_of(one)
    for found in (second, noise_of(other)):
        assert abs(np.corrcoef(first, found)[0, 1]) < 5 / math.sqrt(N)
    assert [record["epsilon"] for record in one.records] == [
        privacy_spent(PRIVACY, releases)["epsilon"] for releases in (1, 2)
    ]
    assert one.state.releases == 2


def test_updates_are_clipped_and_count_alike_whatever_the_images(tmp_path):
    directions = {one.client: np.eye(5)[number] for number, one in enumerate(PROFILES)}

    def go_far(request, weights, profile):
        moved = weights["w"] + np.float32(100) * np.repeat(directions[profile.client], N // 5)
        return report(profile, {**weights, "w": moved.astype(np.float32)})

    run = run_private(tmp_path, train=go_far, rounds=1, privacy=Privacy(0.02, 200.0, 1e-5))
    # Each client moves 4000 numbers alone, by 200 / √4000 after clipping, and each counts a fifth.
    parts = noise_of(run).reshape(5, N // 5).mean(axis=1)
    np.testing.assert_allclose(
        parts, 200 / math.sqrt(N // 5) / 5, atol=6 * 0.02 * 200 * 0.26 / math.sqrt(N // 5)
    )


def test_messages_and_records_have_no_scores(tmp_path):
    run = run_private(tmp_path, rounds=1)
    assert run.records[0]["groups"] == {"MRI": {"clients": 5}}
    assert all(set(one) <= {"client", "modality", "seconds"} for one in run.records[0]["clients"])


def test_a_client_that_drops_out_leaves_enough_noise(tmp_path):
    def drop(action, client, round_, message, answer):
        if action == "train" and client == "c2":
            raise RuntimeError("gone")
        return answer()

    run = run_private(tmp_path, rounds=1, spoil=drop)
    assert run.records[0]["accepted"] == ["c1", "c3", "c4", "c5"]
    deviation = PRIVACY.noise * PRIVACY.clip * math.sqrt(4 / 3) / 4
    assert noise_of(run).std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * N))


def test_a_round_that_was_opened_before_its_server_was_killed_counts_again(tmp_path):
    opened = []

    def note(round_, groups):
        opened.append((round_, tuple(groups)))
        return len(opened)

    def die(action, client, round_, message, answer):
        reply = answer()
        if action == UNMASK and round_ == 2 and len(opened) == 2:
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_private(tmp_path, spoil=die, note_opening=note)
    first = run_private(tmp_path, rounds=1)
    assert opened == [(1, ("MRI",)), (2, ("MRI",))]
    again = run_private(tmp_path, resumed=first.state, note_opening=note)
    assert opened[2:] == [(2, ("MRI",))]
    assert again.state.releases == 3
    assert again.records[-1]["epsilon"] == privacy_spent(PRIVACY, 3)["epsilon"]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "fedgs", "fedadam"])
def test_every_mean_can_be_private(algorithm, tmp_path):
    run = run_private(tmp_path, algorithm, rounds=1)
    assert run.state.releases == 1
    (model,) = run.state.server.values()
    assert np.isfinite(model["w"]).all()
    assert model["w"].std() > 0


def test_noise_that_does_not_fit_ends_the_run_before_anybody_trains(tmp_path):
    with pytest.raises(FlamesError, match=r"gives each client noise of .* units"):
        run_private(tmp_path, privacy=Privacy(0.02, 1e-6, 1e-5), wire_dtype="fp16")


def test_a_server_that_asks_for_another_clip_than_its_session_is_declined():
    terms = SumTerms("run", noise=1.0, clip=0.5)
    check_noise(terms, 0.5)
    check_noise(SumTerms("run"), 0.0)
    for other, clip in ((terms, 0.0), (terms, 0.6), (SumTerms("run"), 0.5)):
        with pytest.raises(Declined, match="expected the same in both; ask who runs the server"):
            check_noise(other, clip)


@pytest.mark.parametrize(
    "changes",
    [{"noise": 1.0}, {"clip": 1.0}, {"noise": -1.0, "clip": 1.0}, {"noise": float("inf"), "clip": 1.0}],
)
def test_terms_with_half_a_noise_are_rejected(changes):
    with pytest.raises(ValueError, match="values of another release"):
        SumTerms("run", **changes)
    with pytest.raises(ValueError, match="values of another release"):
        SumTerms("run", weighing="examples", noise=1.0, clip=1.0)
