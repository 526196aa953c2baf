import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.federated.topology import Topology
from flames_cli.errors import FlamesError

SEEDS = st.integers(0, 2**31)
COUNTS = st.integers(1, 12)


def names_of(n):
    return [f"site-{index:02}" for index in range(n)]


def neighbourhoods(n):
    """Return the numbers of neighbours with which `n` peers have a connected regular graph."""
    return [k for k in range(1, n) if k * n % 2 == 0 and (k > 1 or n == 2)]


RANDOM = COUNTS.filter(lambda n: n > 1).flatmap(
    lambda n: st.tuples(st.just(n), st.sampled_from(neighbourhoods(n)))
)


def is_symmetric(graph):
    return all(name in graph[other] for name, others in graph.items() for other in others)


def reached_from_the_first(graph):
    reached, new = set(), {min(graph)}
    while new:
        reached |= new
        new = {other for name in new for other in graph[name]} - reached
    return reached


@given(COUNTS, SEEDS, st.sampled_from(["ring", "full"]))
def test_rings_and_full_graphs_are_regular_symmetric_and_connected(n, seed, kind):
    graph = Topology(kind, seed).graph("MRI", names_of(n))
    expected = n - 1 if kind == "full" else min(n - 1, 2)
    assert list(graph) == names_of(n)
    assert {len(others) for others in graph.values()} == {expected}
    assert all(name not in others for name, others in graph.items())
    assert is_symmetric(graph)
    assert reached_from_the_first(graph) == {*graph}


@given(RANDOM, SEEDS)
def test_random_graphs_are_regular_symmetric_and_connected(numbers, seed):
    n, k = numbers
    graph = Topology("random", seed, k).graph("MRI", names_of(n))
    assert {len({*others}) for others in graph.values()} == {k}
    assert all(name not in others for name, others in graph.items())
    assert is_symmetric(graph)
    assert reached_from_the_first(graph) == {*graph}


@settings(max_examples=50)
@given(st.permutations(names_of(8)), SEEDS, st.sampled_from(["ring", "random", "full"]))
def test_graphs_are_the_same_whatever_the_order_of_the_peers(order, seed, kind):
    topology = Topology(kind, seed, 4)
    assert topology.graph("MRI", order) == topology.graph("MRI", names_of(8))


def test_random_graphs_differ_by_seed_and_by_group():
    def draw(seed, group):
        return Topology("random", seed, 3).graph(group, names_of(10))

    assert draw(0, "MRI") == draw(0, "MRI")
    assert len({str(draw(seed, group)) for seed in range(3) for group in ("MRI", "US")}) == 6


def test_a_ring_connects_neighbours_in_the_order_of_names():
    ring = Topology("ring", 0).graph("US", ["d", "b", "a", "c"])
    assert ring == {"a": ("b", "d"), "b": ("a", "c"), "c": ("b", "d"), "d": ("a", "c")}


def test_a_ring_of_three_is_full():
    assert Topology("ring", 0).graph("US", "abc") == Topology("full", 0).graph("US", "abc")


@pytest.mark.parametrize("kind", ["ring", "random", "full"])
def test_a_peer_alone_has_no_neighbours(kind):
    assert Topology(kind, 0).graph("US", ["only"]) == {"only": ()}


@pytest.mark.parametrize(("n", "k", "possible"), [(5, 3, "2, 4"), (3, 4, "2"), (4, 1, "2, 3"), (2, 3, "1")])
def test_an_impossible_random_graph_is_refused_with_the_possible_numbers(n, k, possible):
    with pytest.raises(
        FlamesError, match=f"--neighbours {k} .* {n} peers of US, expected one of {possible} "
    ):
        Topology("random", 0, k).graph("US", names_of(n))


@given(SEEDS, st.integers(1, 50), st.text(min_size=1, max_size=8))
def test_peers_are_never_absent_without_a_probability(seed, round_, peer):
    assert Topology("ring", seed).is_online(peer, round_)


def test_peers_are_absent_with_the_given_probability_and_in_rounds_of_their_own():
    topology = Topology("ring", 3, absent=0.3)
    online = {peer: [topology.is_online(peer, round_) for round_ in range(1, 2001)] for peer in "ab"}
    assert all(0.66 < sum(rounds) / 2000 < 0.74 for rounds in online.values())
    assert online["a"] != online["b"]
    assert online["a"] == [topology.is_online("a", round_) for round_ in range(1, 2001)]


@pytest.mark.parametrize("absent", [-0.1, 1.0, float("nan")])
def test_an_impossible_probability_is_refused(absent):
    with pytest.raises(FlamesError, match="expected a probability from 0 to below 1"):
        Topology("ring", 0, absent=absent)
