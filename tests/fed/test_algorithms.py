import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from tests.support.federation import drift, make_profile, run_federation

CLIENTS = {"m1": ("MRI", 30), "m2": ("MRI", 10), "u1": ("US", 5), "u2": ("US", 20)}


def run(name, **options):
    clients = [make_profile(client, modality, n) for client, (modality, n) in CLIENTS.items()]
    return run_federation(clients, name, **options)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def mean_of(reports, clients):
    chosen = [reports[client] for client in clients]
    return weighted_mean([report.weights for report in chosen], [report.n_examples for report in chosen])


def test_every_algorithm_has_a_summary():
    assert set(ALGORITHMS) >= {"flames", "fedavg", "fedavg-modality", "local", "centralised"}
    assert all(algorithm.summary for algorithm in ALGORITHMS.values())
    assert get_algorithm("flames") is ALGORITHMS["flames"]


def test_an_unknown_algorithm_lists_the_known_ones():
    with pytest.raises(
        FlamesError, match=f"strategy 'sgd' is not known; choose one of {', '.join(ALGORITHMS)}"
    ):
        get_algorithm("sgd")


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("flames", ("plain", "modality", "flames", "examples", "replace")),
        ("fedavg", ("plain", "all", "mean", "examples", "replace")),
        ("fedgs", ("fedgs", "all", "mean", "steps", "replace")),
        ("fedgs-unscaled", ("fedgs-unscaled", "all", "mean", "steps", "replace")),
        ("flames-fedgs", ("fedgs", "modality", "flames", "examples", "replace")),
        ("fedprox", ("fedprox", "all", "mean", "examples", "replace")),
        ("fedbn", ("plain", "all", "fedbn", "examples", "replace")),
        ("fedadam", ("plain", "all", "mean", "examples", "adam")),
        ("fednova", ("plain", "all", "fednova", "examples", "replace")),
        ("scaffold", ("scaffold", "all", "mean", "uniform", "replace")),
    ],
)
def test_an_algorithm_is_its_choices(name, choices):
    one = get_algorithm(name)
    assert (one.local_update, one.groups, one.blend, one.weight, one.server) == choices
    assert (one.pooled, one.server_momentum) == (False, 0)


def test_algorithms_are_listed_without_numpy():
    code = "import sys, flames_cli.fed.algorithms; sys.exit('numpy' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0


def test_scaffolds_control_is_the_sum_of_good_changes_over_all_clients():
    def spoil(request, weights, who):
        report = drift(request, weights, who)
        if who.client == "u1":
            report.weights["conv.weight"][:] = np.nan
        return report

    seen = run("scaffold", rounds=1, train=spoil)
    changes = [report.control["conv.weight"] for report in seen.reports if report.client != "u1"]
    assert len(changes) == len(CLIENTS) - 1
    control = seen.state.optimiser_state["all"]["control"]["conv.weight"]
    np.testing.assert_allclose(control, sum(changes) / len(CLIENTS), rtol=1e-6)


def test_only_the_centralised_bound_pools_data():
    assert [name for name, algorithm in ALGORITHMS.items() if algorithm.pooled] == ["centralised"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_everyone_starts_from_the_same_weights(name):
    first, *others = run(name).received(1).values()
    assert all(same(first, other) for other in others)


def test_fedavg_gives_every_client_the_one_mean_by_examples():
    seen = run("fedavg")
    expected = mean_of(seen.reported(1), CLIENTS)
    assert list(seen.state.server) == ["all"]
    assert seen.state.personal == {}
    assert all(same(weights, expected) for weights in seen.received(2).values())


def test_fedavg_by_modality_gives_every_modality_its_own_mean():
    seen = run("fedavg-modality")
    received, reported = seen.received(2), seen.reported(1)
    assert same(received["m1"], mean_of(reported, ["m1", "m2"]))
    assert same(received["m1"], received["m2"])
    assert same(received["u1"], mean_of(reported, ["u1", "u2"]))
    assert same(received["u1"], received["u2"])
    assert not same(received["m1"], received["u1"])


def test_a_local_client_continues_from_its_own_weights():
    seen = run("local")
    received = seen.received(2)
    assert set(seen.state.server) == set(CLIENTS)
    for client, report in seen.reported(1).items():
        assert same(received[client], report.weights)


def test_flames_gives_every_client_its_own_model_and_each_modality_one():
    seen = run("flames")
    received = list(seen.received(2).values())
    assert set(seen.state.server) == {"MRI", "US"}
    assert set(seen.state.personal) == set(CLIENTS)
    assert not any(same(one, other) for i, one in enumerate(received) for other in received[:i])


@pytest.mark.parametrize("name", ["flames", "fedavg-modality"])
def test_one_modality_does_not_change_the_other(name):
    def louder(request, weights, who):
        report = drift(request, weights, who)
        if who.modality == "US":
            report.weights["conv.weight"] *= 100
        return report

    quiet, loud = run(name), run(name, train=louder)
    assert same(quiet.state.server["MRI"], loud.state.server["MRI"])
    assert not same(quiet.state.server["US"], loud.state.server["US"])
