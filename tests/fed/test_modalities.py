"""Rounds by modality, with clients that reply late."""

import pytest

from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.events import FederationStarted, ModalityDone, RoundDone, Waiting
from flames_cli.fed.modalities import require_separate
from flames_cli.fed.modality_states import ModalityStates, merge_records
from flames_cli.fed.pace import Pace
from flames_cli.fed.participation import Participation
from flames_cli.fed.plan import Plan
from tests.support.asserts import assert_same_state
from tests.support.federation import SIZE, Watched, drift, initial_weights, make_profile, run_federation

QUICK = Pace(poll_s=0.0001, longest_poll_s=0.0001, presence_s=0.0001)
PROFILES = [
    make_profile("brain-1", n_train=10),
    make_profile("brain-2", n_train=20),
    make_profile("breast", "US", 7),
    make_profile("ovary", "US", 5),
]
TIMED = {"seconds", "rss_mb"}


def run(**options):
    return run_federation(PROFILES, **{"rounds": 3, "pace": QUICK, "by_modality": ModalityStates, **options})


def untimed(record):
    clients = [{key: one[key] for key in one if key not in TIMED} for one in record["clients"]]
    return {**{key: record[key] for key in record if key not in TIMED}, "clients": clients}


def finished(watched):
    """Return what was finished, in order: (modality, round), or the round of all."""
    return [
        (event.modality, event.record["round"]) if isinstance(event, ModalityDone) else event.record["round"]
        for event in watched.events
        if isinstance(event, ModalityDone | RoundDone)
    ]


@pytest.mark.parametrize(
    "algorithm", ["flames", "flames-adaptive", "fedavg-modality", "local", "flames-fedgs"]
)
@pytest.mark.parametrize("delays", [{}, {"brain-1": 5}, {"breast": 9, "brain-2": 2}])
def test_all_rounds_together_are_those_in_step_bit_for_bit(algorithm, delays):
    step = run(algorithm=algorithm, by_modality=None)
    own = run(algorithm=algorithm, delays=delays)
    assert len(own.saved) == 3
    for (state, record), (expected, line) in zip(own.saved, step.saved, strict=True):
        assert_same_state(state, expected)
        assert state.clients == expected.clients
        assert list(state.server) == list(expected.server)
        assert list(state.personal) == list(expected.personal)
        assert untimed(record) == untimed(line)


@pytest.mark.parametrize(
    "plan",
    [{"fraction": 0.5}, {"style_from": 2}, {"max_update_norm": 10.0}, {"wire_dtype": "int8"}],
    ids=lambda plan: next(iter(plan)),
)
def test_options_that_concern_single_clients_give_the_same_in_both_ways(plan):
    assert_same_state(run(**plan).state, run(by_modality=None, **plan).state)


def test_a_quick_modality_finishes_its_rounds_before_the_first_one_of_a_slow_one():
    watched = run(delays={"brain-1": 1000})
    assert finished(watched) == [
        *[("US", 1), ("US", 2), ("US", 3)],
        *[("MRI", 1), 1, ("MRI", 2), 2, ("MRI", 3), 3],
    ]


def test_without_delays_modalities_take_turns_and_a_round_of_all_is_saved_as_soon_as_possible():
    watched = run(rounds=2)
    assert finished(watched) == [("MRI", 1), ("US", 1), 1, ("MRI", 2), ("US", 2), 2]
    (started,) = [event for event in watched.events if isinstance(event, FederationStarted)]
    assert started.by_modality
    assert started.first_round == 1


def test_a_late_client_costs_only_its_own_modality_a_report():
    participation = Participation(round_timeout_s=0.2, all_must_join=False, join_timeout_s=0.5)
    watched = run(delays={"breast": 10**9}, participation=participation, rounds=2)
    rejected = [record["rejected"] for record in watched.records]
    assert [list(one) for one in rejected] == [["breast"], []]
    assert [one["client"] for one in watched.records[1]["clients"]] == ["brain-1", "brain-2", "ovary"]


def test_a_modality_that_stops_does_not_stop_the_others_and_is_named():
    def train(request, weights, who):
        if who.modality == "US" and request.round == 2:
            raise FlamesError("its disk is gone")
        return drift(request, weights, who)

    watched = Watched()
    with pytest.raises(FlamesError, match=r"^US has stopped: round 2 got no good report \(breast: its disk"):
        run(train=train, watched=watched)
    assert finished(watched)[-1] == ("MRI", 3)
    assert len(watched.saved) == 1


def test_a_modality_without_enough_clients_is_waited_for_alone():
    participation = Participation(min_clients_by_modality={"CT": 1}, all_must_join=False, join_timeout_s=0.2)
    watched = Watched()
    with pytest.raises(FlamesError, match=r"^CT has stopped: round 1 .* 1 of CT are needed, 0 can be asked"):
        run(participation=participation, watched=watched)
    assert finished(watched)[-1] in (("MRI", 3), ("US", 3))
    assert watched.saved == []  # no round of all, since CT has done none
    assert [event.missing for event in watched.events if isinstance(event, Waiting)] == [
        "1 of CT are needed, 0 can be asked"
    ]


def test_each_modality_continues_from_its_own_state():
    class Begun(ModalityStates):
        """Continues a run that was stopped while US was two rounds ahead."""

        def __init__(self, save):
            super().__init__(save)
            self.newest = dict(stopped)
            self.combined = 1
            self._records = {2: {"US": us_lines[1]}, 3: {"US": us_lines[2]}}
            self._states = {2: {"US": us_states[1]}, 3: {"US": us_states[2]}}

    whole, us_states, us_lines = run(), [], []

    class Watching(ModalityStates):
        def _store(self, modality, state, record):
            super()._store(modality, state, record)
            if modality == "US":
                us_states.append(state)
                us_lines.append(record)
            elif state.round == 1:
                stopped[modality] = state

    stopped: dict[str, State] = {}
    run(by_modality=Watching)
    stopped["US"] = us_states[2]
    again = run(by_modality=Begun, resumed=whole.saved[0][0])
    assert finished(again) == [("MRI", 2), 2, ("MRI", 3), 3]
    assert_same_state(again.state, whole.state)


def test_rounds_that_all_had_done_when_the_process_was_killed_are_combined_first():
    whole = run(rounds=2)

    class Killed(ModalityStates):
        def __init__(self, save):
            super().__init__(save)
            self.newest, self._records, self._states = kept

    class Watching(ModalityStates):
        def _combine(self, seconds):
            kept[:] = [
                dict(self._states[1]),
                {1: dict(self._records[1])},
                {1: dict(self._states[1])},
            ]
            raise KeyboardInterrupt

    kept: list = []
    with pytest.raises(KeyboardInterrupt):
        run(by_modality=Watching, rounds=2)
    again = run(by_modality=Killed, rounds=2)
    assert finished(again)[0] == 1
    assert untimed(again.records[0]) == untimed(whole.records[0])
    assert_same_state(again.state, whole.state)


def test_modalities_with_one_model_cannot_do_their_own_rounds():
    plan = Plan(get_algorithm("fedavg"), 1, 0, "stub", {}, initial_weights(), SIZE, strategy="fedavg")
    with pytest.raises(FlamesError, match=r"one model 'all' for MRI and US, .*leave --rounds-by"):
        require_separate(plan, PROFILES)


def test_the_line_of_a_round_has_all_clients_by_name_and_the_bytes_of_all():
    lines = [
        {
            "round": 2,
            "seconds": 3.0,
            "clients": [{"client": "b"}],
            "accepted": ["b"],
            "rejected": {},
            "unchanged_groups": [],
            "bytes_down": 1,
            "bytes_up": 2,
            "rss_mb": 9.0,
            "epsilon": 0.5,
        },
        {
            "round": 2,
            "seconds": 1.0,
            "clients": [{"client": "a"}],
            "accepted": [],
            "rejected": {"a": "late"},
            "unchanged_groups": ["US"],
            "bytes_down": 10,
            "bytes_up": 20,
            "rss_mb": 8.0,
            "epsilon": 0.7,
        },
    ]
    assert merge_records(2, lines) == {
        "round": 2,
        "seconds": 3.0,
        "clients": [{"client": "a"}, {"client": "b"}],
        "accepted": ["b"],
        "rejected": {"a": "late"},
        "unchanged_groups": ["US"],
        "bytes_down": 11,
        "bytes_up": 22,
        "rss_mb": 9.0,
        "epsilon": 0.7,
    }
    assert merge_records(2, lines, 7.0)["seconds"] == 7.0
