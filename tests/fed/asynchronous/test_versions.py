"""Rounds without waiting: over a virtual clock, and over nodes that reply when they are ready."""

from dataclasses import replace

import pytest

from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ReportRejected
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.pace import Pace
from flames_cli.fed.participation import Participation
from flames_cli.fed.virtual_clock import VirtualClock
from tests.support.asserts import assert_same_state, without_timings
from tests.support.federation import Watched, drift, make_profile, run_federation

QUICK = Pace(poll_s=0.0001, longest_poll_s=0.0001, presence_s=0.0001)
PROFILES = [make_profile(client, n_train=n) for client, n in (("a", 10), ("b", 10), ("c", 10))]
SLOW = VirtualClock(0, {"c": 10.0}, jitter=0.1)
STRATEGIES = pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality", "flames-fedgs"])


class States(ModalityStates):
    """States that remember those of each modality."""

    def __init__(self, save, newest=None):
        super().__init__(save)
        self.made = []
        for modality, state in (newest or {}).items():
            self.newest[modality] = state
            self.combined = state.round

    def _store(self, modality, state, record):
        super()._store(modality, state, record)
        self.made.append((modality, state, record))


def run(newest=None, profiles=PROFILES, **options):
    """Return (what passed, the versions of each modality in order)."""
    made = []

    def open_states(save):
        made.append(States(save, newest))
        return made[0]

    options = {"rounds": 3, "pace": QUICK, "buffering": Buffering(2), "clock": SLOW, **options}
    watched = run_federation(profiles, by_modality=open_states, **options)
    return watched, made[0].made


def summary(versions):
    """Return {client: (training, began, staleness)} of each version."""
    return [
        {one["client"]: (one["training"], one["began"], one["staleness"]) for one in record["clients"]}
        for _, _, record in versions
    ]


@STRATEGIES
def test_equally_fast_clients_and_a_buffer_for_all_give_the_bits_of_rounds_in_step(algorithm):
    profiles = [*PROFILES, make_profile("d", "US"), make_profile("e", "US")]
    step = run_federation(profiles, algorithm, rounds=3)
    free, _ = run(algorithm=algorithm, profiles=profiles, buffering=Buffering(9), clock=VirtualClock(0))
    assert len(free.saved) == 3
    for (state, record), (expected, _) in zip(free.saved, step.saved, strict=True):
        assert_same_state(state, expected)
        assert state.clients == expected.clients
        assert all(one["staleness"] == [0] for one in record["clients"])
    assert [record["clock_seconds"] for record in free.records] == [1.0, 2.0, 3.0]


def test_fast_clients_go_on_while_a_slow_one_trains():
    _, versions = run(rounds=12)
    trainings = [client for one in summary(versions) for client in one]
    assert trainings.count("c") == 1
    (late,) = [one["c"] for one in summary(versions) if "c" in one]
    assert late == (1, 0, [9])  # it began with the initial model, nine versions ago
    times = [record["clock_seconds"] for _, _, record in versions]
    assert times == sorted(times)
    assert 8 < times[-1] < 14  # two of three clients made 23 trainings of a second


def test_a_fast_client_may_report_twice_in_one_version():
    _, versions = run(rounds=1, buffering=Buffering(3), clock=VirtualClock(0, {"b": 9.0, "c": 9.0}))
    assert summary(versions) == [{"a": (3, 0, [0, 0, 0])}]


@STRATEGIES
def test_a_resumed_simulation_gives_the_same_bits_from_every_version(algorithm):
    options = {"algorithm": algorithm, "rounds": 12}
    _, versions = run(**options)
    for number, (_, state, _) in enumerate(versions):
        _, again = run({"MRI": state}, **options)
        expected = versions[number + 1 :]
        assert summary(again) == summary(expected)
        for (_, found, record), (_, wanted, line) in zip(again, expected, strict=True):
            assert_same_state(found, wanted)
            assert record["clock_seconds"] == line["clock_seconds"]
            assert found.progress.on_the_way == wanted.progress.on_the_way


def test_the_order_of_arrival_follows_from_the_seed_and_not_from_the_engine():
    _, versions = run(rounds=8)
    # As with ray: several messages are sent ahead, and the later one is answered first.
    sent_ahead = Participation(in_flight=3)
    _, ahead = run(rounds=8, participation=sent_ahead, delays={"a": 3, "b": 1})
    assert without_timings(line for *_, line in ahead) == without_timings(line for *_, line in versions)
    assert_same_state(ahead[-1][1], versions[-1][1])
    assert summary(run(rounds=8, clock=replace(SLOW, seed=1))[1]) != summary(versions)


def test_simulated_clients_that_train_at_the_end_are_waited_for():
    sent_ahead = Participation(in_flight=3)
    watched, versions = run(rounds=2, participation=sent_ahead, delays={"c": 30})
    reported = [request.client for request, _ in watched.requests]
    assert "c" in reported, "its message was sent ahead"
    assert all("c" not in one for one in summary(versions))


@pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality"])
def test_each_modality_has_its_own_versions_and_clock(algorithm):
    profiles = [*PROFILES, make_profile("breast", "US", 40)]
    watched, versions = run(algorithm=algorithm, profiles=profiles, rounds=2)
    assert [modality for modality, _, _ in versions].count("US") == 2
    alone, _ = run(algorithm=algorithm, profiles=profiles[3:], rounds=2)
    assert_same_state(
        State(2, {"US": watched.state.server["US"]}), State(2, {"US": alone.state.server["US"]})
    )
    assert watched.state.progress is None  # each modality has its own


def test_a_client_whose_report_is_rejected_waits_for_the_next_version():
    def train(request, weights, who):
        report = drift(request, weights, who)
        return replace(report, n_examples=99) if who.client == "b" and request.round == 1 else report

    watched, versions = run(rounds=2, train=train)
    first, second = (record for _, _, record in versions)
    assert first["rejected"] == {"b": "it reports 99 examples, it joined with 10"}
    assert next(one for one in first["clients"] if one["client"] == "b").keys() == {
        *("client", "modality", "seconds", "rejection_reason")
    }
    assert [one["client"] for one in second["clients"]] == ["a", "b"]
    assert [event.client for event in watched.events if isinstance(event, ReportRejected)] == ["b"]


def test_without_a_client_that_could_report_the_run_ends_with_the_reasons():
    def train(request, weights, who):
        if request.round == 2:
            raise FlamesError("its disk is full")
        return drift(request, weights, who)

    message = r"round 2 got 0 reports, and no client is left .*a: its disk is full; b: its disk is full"
    with pytest.raises(FlamesError, match=message):
        run(train=train, clock=VirtualClock(0), buffering=Buffering(3))


def test_a_report_that_moved_too_far_is_rejected_with_its_buffer():
    def train(request, weights, who):
        report = drift(request, weights, who)
        far = {name: array * 10_000 for name, array in report.weights.items()}
        return replace(report, weights=far) if who.client == "c" else report

    _, versions = run(
        rounds=1, train=train, clock=VirtualClock(0), buffering=Buffering(3), max_update_norm=10.0
    )
    assert "--max-update-norm" in versions[0][2]["rejected"]["c"]
    assert set(versions[0][1].progress.newest) == {"a", "b"}


class TestRealNodes:
    """Nodes that reply when they are ready: there is no virtual clock."""

    def test_reports_count_in_the_order_in_which_they_arrive(self):
        _, versions = run(clock=None, rounds=6, delays={"c": 40})
        trainings = [client for one in summary(versions) for client in one]
        assert trainings.count("c") <= 1
        assert {"a", "b"} <= set(trainings)
        state = versions[-1][1]
        assert state.progress.on_the_way == {}
        assert state.progress.seconds > 0

    def test_a_resumed_run_asks_all_clients_again(self):
        _, versions = run(clock=None, rounds=2)
        before = versions[-1][1]
        watched, again = run({"MRI": before}, clock=None, rounds=5)
        assert [state.round for _, state, _ in again] == [3, 4, 5]
        first = {request.client: request.round for request, _ in reversed(watched.requests)}
        assert first == {name: number + 1 for name, number in before.progress.trainings.items()}
        assert again[0][2]["clock_seconds"] > before.progress.seconds


def test_a_run_with_all_its_versions_does_nothing_more():
    _, versions = run(rounds=2)
    watched = Watched()
    _, again = run({"MRI": versions[-1][1]}, rounds=2, watched=watched)
    assert again == []
    assert watched.requests == []
