from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.reports import LastReport, Report, State
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.core.federated.shelf import Shelf
from flames_cli.core.federated.topology import Topology
from flames_cli.fed.algorithms import get_algorithm
from tests.support.asserts import assert_same
from tests.support.reports import make_model

FLAMES, MEANS = get_algorithm("flames"), get_algorithm("fedavg-modality")


def names_of(n):
    return [f"site-{index}" for index in range(n)]


def draw_reports(n, seed=0, modality="US"):
    rng = np.random.default_rng(seed)

    def weights():
        return {
            "conv.weight": rng.normal(size=(2, 3)).astype(np.float32),
            "norm.running_var": rng.random(3).astype(np.float32),
            "norm.num_batches_tracked": np.array(rng.integers(100), np.int64),
        }

    counts = rng.integers(1, 200, n)
    return [
        Report(name, modality, weights(), int(count), 7 + index)
        for index, (name, count) in enumerate(zip(names_of(n), counts, strict=True))
    ]


def start(n, modality="US"):
    return State(0, {modality: make_model(0.5)}, clients={name: LastReport(modality) for name in names_of(n)})


def swarm(topology, shelf=None):
    return RoundSettings(topology=topology, **({"shelf": shelf} if shelf else {}))


def assert_same_states(found, expected):
    assert found.server.keys() == expected.server.keys()
    for group, model in expected.server.items():
        assert_same(found.server[group], model)
    assert [*found.personal] == [*expected.personal]
    for client, model in expected.personal.items():
        assert_same(found.personal[client], model)
    assert found.clients == expected.clients


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_full_topology_gives_the_models_of_flames_bit_for_bit(n, seed):
    reports = draw_reports(n, seed)
    expected = apply_round(start(n), reports, FLAMES).state
    assert_same_states(
        apply_round(start(n), reports, FLAMES, settings=swarm(Topology("full", 0))).state, expected
    )


def test_a_ring_of_three_gives_the_models_of_a_full_topology():
    reports = draw_reports(3)
    ring, full = (
        apply_round(start(3), reports, FLAMES, settings=swarm(Topology(kind, 0))).state
        for kind in ("ring", "full")
    )
    assert_same_states(ring, full)


@settings(max_examples=25)
@given(
    st.permutations(range(6)), st.sampled_from(["ring", "random", "full"]), st.sampled_from([FLAMES, MEANS])
)
def test_models_do_not_depend_on_the_order_of_the_reports(order, kind, algorithm):
    reports, settings_ = draw_reports(6), swarm(Topology(kind, 1, 3))
    expected = apply_round(start(6), reports, algorithm, settings=settings_).state
    found = apply_round(start(6), [reports[index] for index in order], algorithm, settings=settings_).state
    for client in names_of(6):
        assert_same(found.personal[client], expected.personal[client])
    assert_same(found.server["US"], expected.server["US"])


@pytest.mark.parametrize("missing", [[], [0], [1, 4], [0, 1, 2, 3, 4]])
def test_each_peer_blends_the_reports_that_it_hears_and_its_own(missing):
    topology, reports = Topology("random", 5, 3), draw_reports(6)
    there = [report for index, report in enumerate(reports) if index not in missing]
    state = apply_round(start(6), there, FLAMES, settings=swarm(topology)).state
    graph = topology.graph("US", names_of(6))
    assert [*state.personal] == [report.client for report in there]
    for own in there:
        heard = [one for one in there if one.client == own.client or one.client in graph[own.client]]
        blended, _ = blend_flames([one.weights for one in heard], [one.n_examples for one in heard])
        assert_same(state.personal[own.client], blended[heard.index(own)])


def test_a_peer_that_hears_nobody_keeps_its_own_weights():
    reports = draw_reports(4)
    state = apply_round(start(4), [reports[0], reports[2]], FLAMES, settings=swarm(Topology("ring", 0))).state
    for report in (reports[0], reports[2]):
        assert_same(state.personal[report.client], report.weights)


@pytest.mark.parametrize("strategy", ["fedavg-modality", "fedgs"])
def test_strategies_that_average_take_the_mean_of_what_a_peer_hears(strategy):
    algorithm, topology, reports = get_algorithm(strategy), Topology("ring", 0), draw_reports(5)
    group = algorithm.model_group_of("site-0", "US")
    state = apply_round(start(5, group), reports, algorithm, settings=swarm(topology)).state
    for index, report in enumerate(reports):
        heard = sorted({(index - 1) % 5, index, (index + 1) % 5})
        counts = [reports[one].n_steps if strategy == "fedgs" else reports[one].n_examples for one in heard]
        assert_same(
            state.personal[report.client], weighted_mean([reports[one].weights for one in heard], counts)
        )


def test_neighbour_means_in_a_full_topology_are_the_mean_of_the_server():
    reports = draw_reports(4)
    expected = apply_round(start(4), reports, MEANS).state.server["US"]
    state = apply_round(start(4), reports, MEANS, settings=swarm(Topology("full", 0))).state
    for client in names_of(4):
        assert_same(state.personal[client], expected)
    assert_same(state.server["US"], expected)


def test_absent_peers_keep_their_models():
    topology, reports = Topology("ring", 0), draw_reports(4)
    first = apply_round(start(4), reports, FLAMES, settings=swarm(topology)).state
    second = apply_round(first, reports[:3], FLAMES, settings=swarm(topology)).state
    assert_same(second.personal["site-3"], first.personal["site-3"])
    assert second.clients["site-3"].round == 1


def test_the_models_of_other_peers_do_not_change_a_peer_that_does_not_hear_them():
    topology, reports = Topology("ring", 0), draw_reports(6)
    before = apply_round(start(6), reports, FLAMES, settings=swarm(topology)).state
    other = replace(reports[3], weights=make_model(9.0), n_examples=3)
    after = apply_round(start(6), [*reports[:3], other, *reports[4:]], FLAMES, settings=swarm(topology)).state
    for index in (0, 1, 5):
        assert_same(after.personal[f"site-{index}"], before.personal[f"site-{index}"])


def test_a_report_of_an_unknown_peer_is_rejected():
    reports = draw_reports(4)
    result = apply_round(start(3), reports, FLAMES, settings=swarm(Topology("ring", 0)))
    assert "no peer of this swarm" in result.rejected["site-3"]


class CountingShelf(Shelf):
    """Shelf that counts the reports that are stored at the same time, and the models that are loaded."""

    def __init__(self):
        self.loads = 0

    def keep_report(self, weights):
        def load():
            self.loads += 1
            return weights

        return load


def test_reports_are_on_the_shelf_and_each_peer_loads_those_that_it_hears():
    shelf = CountingShelf()
    apply_round(start(6), draw_reports(6), FLAMES, settings=swarm(Topology("ring", 0), shelf))
    found = shelf.loads
    shelf.loads = 0
    apply_round(start(6), draw_reports(6), FLAMES, settings=swarm(Topology("full", 0), shelf))
    assert found >= 6 * 4
    assert shelf.loads < found  # all peers hear the same, so that the sums are made once
