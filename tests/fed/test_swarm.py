"""A swarm of stub clients: rounds of peers, without a model of the server."""

import pytest

from flames_cli.core.federated.running_sum import plain_mean
from flames_cli.core.federated.topology import Topology
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ReportRejected
from tests.support.asserts import assert_same
from tests.support.federation import drift, initial_weights, make_profile, run_federation

PEERS = [make_profile(f"site-{index}", n_train=5 * index + 3) for index in range(5)]
OTHERS = [make_profile(name, "US") for name in ("breast-1", "breast-2")]


def assert_same_states(found, expected):
    assert {client: last.round for client, last in found.clients.items()} == {
        client: last.round for client, last in expected.clients.items()
    }
    for models, others in ((found.server, expected.server), (found.personal, expected.personal)):
        assert [*models] == [*others]
        for name in models:
            assert_same(models[name], others[name])


def test_full_topology_without_absence_gives_the_states_of_flames_in_each_round():
    flames = run_federation([*PEERS, *OTHERS], rounds=3)
    swarm = run_federation([*PEERS, *OTHERS], rounds=3, topology=Topology("full", 0))
    assert len(swarm.saved) == 3
    for (found, _), (expected, _) in zip(swarm.saved, flames.saved, strict=True):
        assert_same_states(found, expected)


@pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality"])
def test_peers_train_their_own_model_and_never_that_of_the_observer(algorithm):
    swarm = run_federation(PEERS, algorithm, rounds=4, topology=Topology("ring", 1, absent=0.5))
    before = None
    for state, record in swarm.saved:
        received = swarm.received(record["round"])
        assert [*received] == record["accepted"]
        for client, weights in received.items():
            assert_same(weights, before.personal[client] if before else initial_weights())
        before = state
    rounds = [{*record["accepted"]} for record in swarm.records]
    assert any(0 < len(peers) < 5 for peers in rounds)


def test_a_peer_that_was_absent_in_all_rounds_starts_from_the_initial_weights():
    topology, late = next(
        (topology, peer.client)
        for topology in (Topology("ring", seed, absent=0.5) for seed in range(50))
        for peer in PEERS
        if [topology.is_online(peer.client, round_) for round_ in (1, 2, 3)] == [False, False, True]
    )
    swarm = run_federation(PEERS, rounds=3, topology=topology)
    assert late not in {**swarm.received(1), **swarm.received(2)}
    assert_same(swarm.received(3)[late], initial_weights())


def test_the_record_of_a_round_has_who_heard_whom_and_the_bytes_of_a_link():
    topology = Topology("ring", 3, absent=0.3)
    swarm = run_federation(PEERS, rounds=6, topology=topology)
    graph = topology.graph("MRI", [peer.client for peer in PEERS])
    assert any(record["offline"] for record in swarm.records)
    for record in swarm.records:
        online = [peer.client for peer in PEERS if topology.is_online(peer.client, record["round"])]
        assert record["accepted"] == online == [one["client"] for one in record["clients"]]
        assert record["offline"] == [peer.client for peer in PEERS if peer.client not in online]
        assert record["heard"] == {peer: [one for one in graph[peer] if one in online] for peer in online}
        assert record["link_bytes"] == 6 * 4 + 8
        links = sum(map(len, record["heard"].values()))
        assert record["bytes_up"] == record["bytes_down"] == links * record["link_bytes"]


def test_a_run_that_continues_has_the_bits_of_one_that_was_not_interrupted():
    options = {"rounds": 4, "topology": Topology("random", 2, 2, absent=0.4)}
    whole = run_federation(PEERS, **options)
    again = run_federation(PEERS, **options, resumed=whole.saved[1][0])
    assert_same_states(again.state, whole.state)
    same = ("heard", "offline", "accepted", "bytes_up")
    assert [{key: one[key] for key in same} for one in again.records] == [
        {key: one[key] for key in same} for one in whole.records[2:]
    ]


def test_a_round_in_which_all_peers_are_offline_changes_nothing():
    seed = next(
        s
        for s in range(100)
        if not any(Topology("ring", s, absent=0.8).is_online(p.client, 2) for p in PEERS)
    )
    swarm = run_federation(PEERS, rounds=3, topology=Topology("ring", seed, absent=0.8))
    first, second = swarm.saved[0][0], swarm.saved[1][0]
    assert swarm.records[1]["clients"] == []
    assert second.round == 2
    assert_same(second.server["MRI"], first.server["MRI"])
    for client, model in first.personal.items():
        assert_same(second.personal[client], model)


def test_a_bad_report_is_heard_by_nobody():
    def train(request, weights, who):
        report = drift(request, weights, who)
        if who.client == "site-2":
            report.weights["conv.weight"][0, 0] = float("nan")
        return report

    swarm = run_federation(PEERS, rounds=1, topology=Topology("full", 0), train=train)
    (record,) = swarm.records
    assert "not finite" in record["rejected"]["site-2"]
    assert all("site-2" not in heard for heard in record["heard"].values())
    assert any(isinstance(event, ReportRejected) for event in swarm.events)
    assert_same(swarm.state.personal["site-2"], initial_weights())
    good = [report.weights for client, report in swarm.reported(1).items() if client != "site-2"]
    assert_same(swarm.state.server["MRI"], plain_mean(good))


def test_a_round_without_a_good_report_stops_the_run():
    def train(request, weights, who):
        report = drift(request, weights, who)
        report.weights["conv.weight"][:] = float("nan")
        return report

    with pytest.raises(FlamesError, match="round 1 got no good report"):
        run_federation(PEERS, rounds=1, topology=Topology("ring", 0), train=train)
