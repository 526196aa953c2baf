import gc
import itertools
import json
import weakref
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.reports import Entries, Report
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import inline
from flames_cli.fed.events import (
    ClientAsked,
    ClientJoined,
    FederationStarted,
    ReportReceived,
    ReportRejected,
    RoundDone,
)
from flames_cli.fed.messages import ARRAYS, METRICS, REPORT, TrainTask, pack_report, pack_task
from flames_cli.fed.pace import Pace
from flames_cli.fed.plan import initial_seed
from flames_cli.fed.records import message_bytes
from flames_cli.learn.train_options import TrainOptions
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.federation import Watched, drift, make_profile, run_federation
from tests.support.packed import record_with

CLIENTS = {"m1": ("MRI", 30), "m2": ("MRI", 10), "m3": ("MRI", 4), "u1": ("US", 5), "u2": ("US", 20)}


@pytest.fixture
def profiles():
    return [make_profile(client, modality, n) for client, (modality, n) in CLIENTS.items()]


def failing(drift, *clients, reason="disk full", in_round=None):
    """Return training that fails at `clients`."""

    def train(request, weights, who):
        if who.client in clients and in_round in (None, request.round):
            raise FlamesError(reason)
        return drift(request, weights, who)

    return train


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_the_loop_blends_as_flames_does(round_, profiles):
    seen = run_federation(profiles, rounds=3)
    reported, state = seen.reported(round_), seen.saved[round_ - 1][0]
    for modality in ("MRI", "US"):
        members = [client for client, (its, _) in CLIENTS.items() if its == modality]
        models, mean = blend_flames(
            [reported[client].weights for client in members], [CLIENTS[client][1] for client in members]
        )
        assert_same(state.server[modality], mean)
        for client, model in zip(members, models, strict=True):
            assert_same(state.personal[client], model)


def test_each_client_starts_its_round_from_its_own_model_and_gets_no_other(profiles):
    seen = run_federation(profiles, rounds=3)
    for round_ in (2, 3):
        received = seen.received(round_)
        assert list(received) == list(CLIENTS)
        for client, weights in received.items():
            assert_same(weights, seen.saved[round_ - 2][0].personal[client])
    assert len(seen.requests) == 3 * len(CLIENTS)


def test_the_last_state_is_saved_after_every_round(profiles):
    seen = run_federation(profiles, rounds=3)
    assert [state.round for state, _ in seen.saved] == [1, 2, 3]
    assert [record["round"] for record in seen.records] == [1, 2, 3]


def test_a_request_contains_everything_that_training_needs(profiles):
    training = TrainOptions(
        local_epochs=3, batch_size=4, lr=1e-3, augment=False, optimiser="adamw", weight_decay=0.02
    )
    options = {
        "seed": 9,
        "training": training,
        "own_training": {"lr": {"US": 0.5}},
        "wire_dtype": "bf16",
        "run": "0123456789abcdef",
    }
    seen = run_federation(profiles, rounds=1, model_options={"b": 2, "a": 1}, **options)
    requests = {request.client: request for request, _ in seen.requests}
    assert {client: request.training.lr for client, request in requests.items()} == {
        client: 0.5 if modality == "US" else 1e-3 for client, (modality, _) in CLIENTS.items()
    }
    one = requests["m1"]
    assert (one.seed, one.round) == (9, 1)
    assert one.training == training
    assert one.model_options == '{"a": 1, "b": 2}'
    assert (one.wire_dtype, one.run) == ("bf16", "0123456789abcdef")
    assert (one.rule, one.initial_seed) == ("plain", initial_seed(9))


def test_the_number_of_a_node_does_not_change_the_result(profiles):
    one = run_federation(profiles)
    other = run_federation(profiles[::-1], nodes=[40, 7, 12, 3, 99])
    assert_same_state(one.state, other.state)
    assert without_timings(one.records) == without_timings(other.records)


@pytest.mark.parametrize("algorithm", ["flames", "fedavg"])
def test_a_resumed_federation_ends_where_an_uninterrupted_one_does(algorithm, profiles):
    whole = run_federation(profiles, algorithm, rounds=3)
    first = run_federation(profiles, algorithm, rounds=1)
    rest = run_federation(profiles, algorithm, rounds=3, resumed=first.state)
    assert_same_state(rest.state, whole.state)
    assert without_timings(first.records + rest.records) == without_timings(whole.records)


def test_a_finished_federation_asks_no_client(profiles):
    done = run_federation(profiles, rounds=2).state
    seen = run_federation(profiles, rounds=2, resumed=done)
    assert (seen.requests, seen.saved) == ([], [])


def test_bytes_count_every_model_once_each_way(profiles):
    seen = run_federation(profiles)
    model = message_bytes(pack_task(TrainTask(*seen.requests[0]), 2))
    assert [record["bytes_down"] for record in seen.records] == [len(CLIENTS) * model] * 2
    assert [record["bytes_up"] for record in seen.records] == [len(CLIENTS) * model] * 2


@pytest.mark.parametrize("algorithm", ["fedavg", "flames"])
def test_one_reply_is_held_at_a_time(profiles, algorithm):
    replies = []

    def answer(report, message):
        assert [reply for reply in replies if reply() is not None] == []
        reply = pack_report(report, message)
        replies.append(weakref.ref(reply))
        return reply

    gc.disable()
    try:
        run_federation(profiles, algorithm, answer=answer)
    finally:
        gc.enable()
    assert len(replies) == 2 * len(CLIENTS)


def test_a_record_is_json_and_contains_the_reported_numbers(profiles):
    record = json.loads(json.dumps(run_federation(profiles, rounds=1).records[0]))
    assert record["accepted"] == list(CLIENTS)
    assert record["rejected"] == {}
    assert [entry["client"] for entry in record["clients"]] == list(CLIENTS)
    for entry in record["clients"]:
        modality, n = CLIENTS[entry["client"]]
        assert (entry["modality"], entry["n_examples"], entry["n_steps"]) == (modality, n, 1)
        assert entry["train_loss"] == 0.5
        assert entry["seconds"] >= 0


def test_a_client_that_fails_leaves_the_round_to_the_others(profiles):
    seen = run_federation(profiles, train=failing(drift, "m2", in_round=1))
    first, second = seen.records
    assert first["rejected"] == {"m2": "disk full"}
    assert first["accepted"] == ["m1", "m3", "u1", "u2"]
    entry = next(entry for entry in first["clients"] if entry["client"] == "m2")
    assert entry["rejection_reason"] == "disk full"
    assert first["bytes_up"] < first["bytes_down"]
    assert second["accepted"] == list(CLIENTS)
    assert_same(seen.received(2)["m2"], seen.saved[0][0].server["MRI"])


def test_the_report_of_a_rejected_client_has_no_effect(profiles):
    without = [who for who in profiles if who.client != "m2"]
    seen = run_federation(profiles, rounds=1, train=failing(drift, "m2"))
    assert_same_state(seen.state, run_federation(without, rounds=1).state)


def test_a_modality_without_a_good_report_is_unchanged(profiles):
    seen = run_federation(profiles, train=failing(drift, "u1", "u2", in_round=2))
    before, after = (state for state, _ in seen.saved)
    assert_same(after.server["US"], before.server["US"])
    assert_same(after.personal["u1"], before.personal["u1"])
    assert not np.array_equal(after.server["MRI"]["conv.weight"], before.server["MRI"]["conv.weight"])


def test_a_round_in_which_all_fail_ends_the_run_with_every_reason(profiles):
    def train(request, weights, who):
        raise FlamesError(f"no disk at {who.client}")

    with pytest.raises(FlamesError, match="round 1 got no good report") as caught:
        run_federation(profiles, train=train)
    assert all(f"{client}: no disk at {client}" in str(caught.value) for client in CLIENTS)


def test_rounds_before_the_failing_one_are_saved(profiles):
    watched = Watched()
    with pytest.raises(FlamesError, match="round 2 got no good report"):
        run_federation(profiles, train=failing(drift, *CLIENTS, in_round=2), watched=watched)
    assert [state.round for state, _ in watched.saved] == [1]


def spoiled(drift, client, spoil):
    """Return training whose report `spoil` changes at `client`."""

    def train(request, weights, who):
        report = drift(request, weights, who)
        return spoil(report) if who.client == client else report

    return train


def with_weights(report, **entries):
    return type(report)(
        report.client, report.modality, {**report.weights, **entries}, report.n_examples, report.n_steps
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda r: with_weights(r, **{"conv.weight": r.weights["conv.weight"] * np.float32("nan")}),
            "not finite",
        ),
        (
            lambda r: with_weights(r, **{"conv.weight": r.weights["conv.weight"] * np.float32("inf")}),
            "not finite",
        ),
        (lambda r: with_weights(r, **{"conv.weight": r.weights["conv.weight"][:1]}), "shape (1, 3)"),
        (lambda r: with_weights(r, count=np.array(1.5)), "float64, expected int64"),
        (lambda r: with_weights(r, extra=np.zeros(1)), "'extra' is not in the model"),
        (lambda r: type(r)(r.client, r.modality, r.weights, 0), "0 examples"),
        (lambda r: type(r)("m1", r.modality, r.weights, 10), "reports as 'm1'"),
        (lambda r: type(r)(r.client, "US", r.weights, 10), "reports as 'm2' (US), it joined as 'm2' (MRI)"),
    ],
    ids=["NaN", "infinity", "shape", "dtype", "extra entry", "no examples", "another's name", "modality"],
)
def test_a_spoiled_report_is_rejected_and_the_round_continues(spoil, reason, profiles):
    seen = run_federation(profiles, rounds=1, train=spoiled(drift, "m2", spoil))
    (record,) = seen.records
    assert set(record["rejected"]) == {"m2"}
    assert record["accepted"] == ["m1", "m3", "u1", "u2"]
    assert reason in record["rejected"]["m2"]
    without = [who for who in profiles if who.client != "m2"]
    assert_same_state(seen.state, run_federation(without, rounds=1).state)


@pytest.mark.parametrize(
    "records",
    [
        {METRICS: None},
        {REPORT: ConfigRecord({"colour": "red"})},
        {METRICS: MetricRecord({"n_examples": float("inf"), "n_steps": 1})},
        {ARRAYS: record_with(b"")},
        {ARRAYS: record_with(b"PK\x03\x04")},
        {ARRAYS: ArrayRecord({"w": Array(np.ones(2, np.float32))})},
    ],
    ids=["no metrics", "no name", "infinite count", "empty array", "broken archive", "earlier release"],
)
def test_a_reply_that_is_no_report_is_rejected(records, profiles):
    def answer(report, message):
        good = pack_report(report, message)
        if report.client != "m2":
            return good
        content = {name: record for name, record in {**good.content, **records}.items() if record is not None}
        return Message(RecordDict(content), reply_to=message)

    (record,) = run_federation(profiles, rounds=1, answer=answer).records
    assert record["rejected"]["m2"].startswith("its report cannot be read (")
    assert record["accepted"] == ["m1", "m3", "u1", "u2"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 9}, "client b cannot join: its images are 9×9, this federation's 8×8"),
        (
            {"channels": 3},
            r"client b cannot join: its images have 3 channel\(s\), this federation's have 1; preprocess",
        ),
        ({"protocol": 1}, "client b cannot join: it speaks protocol 1, this server 12"),
        ({"client": "a"}, "client a cannot join: another node has the same name"),
    ],
    ids=["size", "channels", "protocol", "name"],
)
def test_a_client_that_does_not_fit_cannot_join(changes, reason):
    with pytest.raises(FlamesError, match=reason):
        run_federation([make_profile("a"), make_profile(**{"client": "b", **changes})])


def test_a_federation_of_colour_images_takes_clients_of_colour_images_only():
    colour = [make_profile(name, channels=3) for name in "ab"]
    assert run_federation(colour, rounds=1, channels=3).records[0]["accepted"] == ["a", "b"]
    with pytest.raises(FlamesError, match=r"client c cannot join: its images have 1 channel\(s\)"):
        run_federation([*colour, make_profile("c")], channels=3)


def test_a_node_that_speaks_otherwise_cannot_join():
    def describe(who, message):
        return Message(RecordDict({REPORT: ConfigRecord({"hospital": who.client})}), reply_to=message)

    with pytest.raises(FlamesError, match="node 2 cannot join: its profile cannot be read"):
        run_federation([make_profile("a")], describe=describe)


def test_a_node_without_a_profile_cannot_join():
    def describe(who, message):
        raise FlamesError("its shard is gone")

    with pytest.raises(FlamesError, match="node 2 cannot join: its shard is gone"):
        run_federation([make_profile("a")], describe=describe)


def test_a_federation_without_clients_is_an_error():
    with pytest.raises(FlamesError, match="no client joined the federation"):
        run_federation([])


def test_events_come_in_order(profiles):
    events = run_federation(profiles, rounds=2, train=failing(drift, "u1", in_round=2)).events
    joined, (started, *rest) = events[: len(CLIENTS)], events[len(CLIENTS) :]
    assert joined == [ClientJoined(client, its, "brain", n) for client, (its, n) in CLIENTS.items()]
    assert isinstance(started, FederationStarted)
    assert started.clients == tuple((client, *what) for client, what in CLIENTS.items())
    assert (started.first_round, started.rounds) == (1, 2)
    kinds = [type(event) for event in rest]
    first, second = kinds[: len(kinds) // 2], kinds[len(kinds) // 2 :]
    assert first == [ClientAsked, ReportReceived] * len(CLIENTS) + [RoundDone]
    assert second == [ReportRejected if at == 7 else kind for at, kind in enumerate(first)]
    assert [event for event in rest if isinstance(event, ReportRejected)] == [
        ReportRejected("u1", 2, "disk full")
    ]


def test_a_bad_report_is_received_then_rejected_and_its_numbers_are_not_recorded(profiles):
    def train(request, weights, who):
        report = drift(request, weights, who)
        bad = {"conv.weight": np.full((2, 3), np.nan, np.float32)}
        return replace(report, weights={**report.weights, **bad}) if who.client == "u1" else report

    seen = run_federation(profiles, rounds=1, train=train)
    reason = "'conv.weight' contains values that are not finite"
    kinds = (ReportReceived, ReportRejected)
    of_client = [event for event in seen.events if isinstance(event, kinds) and event.client == "u1"]
    assert [type(event) for event in of_client] == [ReportReceived, ReportRejected]
    assert of_client[1] == ReportRejected("u1", 1, reason)
    (record,) = seen.records
    assert record["rejected"] == {"u1": reason}
    (entry,) = (entry for entry in record["clients"] if entry["client"] == "u1")
    assert entry == {
        "client": "u1",
        "modality": "US",
        "seconds": entry["seconds"],
        "rejection_reason": reason,
    }


def test_a_round_is_saved_before_its_event(profiles):
    watched = Watched()
    saved_when_told = []

    def on_event(event):
        if isinstance(event, RoundDone):
            saved_when_told.append(len(watched.saved))

    run_federation(profiles, rounds=2, watched=watched, on_event=on_event)
    assert saved_when_told == [1, 2]


class LateGrid(inline.InlineGrid):
    """A grid whose replies come after a pause, when all clients have been asked, the last one first."""

    pulls = 0

    def pull_messages(self, message_ids):
        self.pulls += 1
        if len(self._waiting) < len(CLIENTS) or self.pulls % 3:
            return []
        pull = super().pull_messages
        return [reply for number in reversed(list(self._waiting)) for reply in pull([number])]


def test_replies_may_come_late_and_in_any_order(profiles, monkeypatch):
    expected = run_federation(profiles)
    monkeypatch.setattr(inline, "InlineGrid", LateGrid)
    seen = run_federation(profiles, pace=Pace(poll_s=0))
    assert seen.records[0]["accepted"] == list(CLIENTS), "reports are taken in order of the names"
    assert_same_state(seen.state, expected.state)
    assert seen.records[1]["bytes_up"] == expected.records[1]["bytes_up"]


def test_a_node_that_is_gone_costs_its_own_report_alone(profiles, monkeypatch):
    class Gone(inline.InlineGrid):
        """A grid that replies for client u1's node in its own name, as a SuperLink does."""

        def pull_messages(self, message_ids):
            replies = super().pull_messages(message_ids)
            for reply in replies:
                if reply.metadata.src_node_id == 5 and reply.metadata.message_type == "train":
                    reply.metadata.__dict__["_src_node_id"] = inline.SERVER_NODE
                    reply.__dict__["_content"] = None
                    reply.__dict__["_error"] = Error(6, "Node Unavailable")
            return replies

    monkeypatch.setattr(inline, "InlineGrid", Gone)
    seen = run_federation(profiles, rounds=2)
    assert [record["rejected"] for record in seen.records] == [{"u1": "Node Unavailable"}] * 2
    assert seen.records[1]["accepted"] == ["m1", "m2", "m3", "u2"]


def test_more_examples_than_a_client_joined_with_are_rejected(profiles):
    def boast(request, weights, who):
        report = drift(request, weights, who)
        return replace(report, n_examples=2**62) if who.client == "u1" else report

    (record,) = run_federation(profiles, rounds=1, train=boast).records
    assert record["rejected"] == {"u1": f"it reports {2**62} examples, it joined with 5"}


@pytest.mark.parametrize("steps", [-1, 2, 2**62])
def test_more_steps_than_a_client_can_make_are_rejected(steps, profiles):
    def boast(request, weights, who):
        report = drift(request, weights, who)
        return replace(report, n_steps=steps) if who.client == "u1" else report

    (record,) = run_federation(profiles, "fedgs", rounds=1, train=boast).records
    assert record["rejected"] == {"u1": f"it reports {steps} steps, its images make at most 1"}


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"received_val_dice": 2.0}, "it reports a validation Dice of 2, expected 0 to 1"),
        ({"received_val_dice_small": float("nan")}, "it reports a validation Dice of nan, expected 0 to 1"),
        ({"trained_val_dice": -0.5}, "it reports a validation Dice of -0.5, expected 0 to 1"),
        ({"n_val": 2.0}, "it reports 2 validation images, it joined with 1"),
    ],
)
def test_a_validation_that_is_not_possible_is_rejected(numbers, reason, profiles):
    """The best round follows from these numbers, so one client must not decide it by a Dice of 2."""

    def boast(request, weights, who):
        report = drift(request, weights, who)
        return replace(report, metrics=report.metrics | numbers) if who.client == "u1" else report

    (record,) = run_federation(profiles, rounds=1, train=boast).records
    assert record["rejected"] == {"u1": reason}


def test_a_report_of_a_past_round_is_rejected(profiles):
    def answer(report, message):
        reply = pack_report(report, message)
        if report.client == "u1":
            reply.content[REPORT]["round"] = 1
        return reply

    seen = run_federation(profiles, rounds=3, answer=answer)
    assert [record["rejected"] for record in seen.records] == [
        {},
        {"u1": "it reports on round 1, expected round 2"},
        {"u1": "it reports on round 1, expected round 3"},
    ]


def test_a_second_reply_to_one_message_has_no_effect(profiles, monkeypatch):
    class Stuttering(inline.InlineGrid):
        last = None

        def pull_messages(self, message_ids):
            replies = super().pull_messages(message_ids)
            again = [self.last] if self.last else []
            self.last = replies[0] if replies else None
            return [*replies, *replies, *again]

    plain = run_federation(profiles, rounds=2)
    monkeypatch.setattr(inline, "InlineGrid", Stuttering)
    seen = run_federation(profiles, rounds=2)
    assert without_timings(seen.records) == without_timings(plain.records)
    assert_same_state(seen.state, plain.state)


@pytest.mark.parametrize("algorithm", ["flames", "fedavg", "fedgs", "scaffold"])
@pytest.mark.parametrize("bad_round", [1, 2])
def test_a_client_far_outside_is_rejected_and_the_round_continues(algorithm, bad_round, profiles):
    def train(request, weights, who):
        report = drift(request, weights, who)
        if who.client != "u1" or request.round != bad_round:
            return report
        far = weights["conv.weight"] + np.float32(1e6) * (
            report.weights["conv.weight"] - weights["conv.weight"]
        )
        return replace(report, weights={**report.weights, "conv.weight": far})

    seen = run_federation(profiles, algorithm, rounds=2, train=train, max_update_norm=10.0)
    refused = [record["rejected"] for record in seen.records]
    assert [set(one) for one in refused] == [{"u1"} if r == bad_round else set() for r in (1, 2)]
    assert "times as far as the median of" in refused[bad_round - 1]["u1"]
    without = run_federation(
        profiles, algorithm, rounds=2, train=failing(drift, "u1", in_round=bad_round), max_update_norm=10.0
    )
    assert_same_state(seen.state, without.state)


def test_a_record_contains_the_distance_of_each_client(profiles):
    (record,) = run_federation(profiles, rounds=1, training=TrainOptions(lr=0.5)).records
    assert all(entry["update_norm"] > 0 for entry in record["clients"])


def test_models_without_a_good_report_are_named(profiles):
    seen = run_federation(profiles, rounds=2, train=failing(drift, "u1", "u2", in_round=2))
    assert [record["unchanged_groups"] for record in seen.records] == [[], ["US"]]


def test_numbers_that_no_report_contains_are_rejected(profiles):
    def tell(request, weights, who):
        report = drift(request, weights, who)
        return replace(report, metrics={"client": 1.0}) if who.client == "u1" else report

    (record,) = run_federation(profiles, rounds=1, train=tell).records
    assert "it contains 'client', which is not a number of a report" in record["rejected"]["u1"]
    assert [client["client"] for client in record["clients"]] == list(CLIENTS)


def test_a_reason_is_one_line_whatever_a_node_sends(profiles):
    train = failing(drift, "u1", reason="a\u2028b\n\x1b[31mc " + 2000 * "x")
    (record,) = run_federation(profiles, rounds=1, train=train).records
    reason = record["rejected"]["u1"]
    assert reason.startswith("a b [31mc xxx")
    assert len(reason) == 500


def test_scaffold_counts_clients_that_joined_before_it_resumed(profiles):
    whole = run_federation(profiles, "scaffold", rounds=1)
    few = [one for one in profiles if one.client != "m3"]
    rest = run_federation(few, "scaffold", rounds=2, resumed=whole.state)
    assert set(rest.state.clients) == set(CLIENTS)
    assert {client: last.round for client, last in rest.state.clients.items()} == {
        **dict.fromkeys(CLIENTS, 2),
        "m3": 1,
    }


HALF = {"fraction": 0.5}


def asked(seen, round_):
    return {request.client for request, _ in seen.requests if request.round == round_}


def test_a_round_asks_a_fraction_of_every_modality_and_blames_no_other_client(profiles):
    seen = run_federation(profiles, rounds=6, **HALF)
    for record in seen.records:
        listed = [client["client"] for client in record["clients"]]
        assert set(listed) == set(record["accepted"]) == asked(seen, record["round"])
        assert Counter(CLIENTS[client][0] for client in listed) == {"MRI": 2, "US": 1}
        assert (record["rejected"], record["unchanged_groups"]) == ({}, [])
    assert {client for round_ in range(1, 7) for client in asked(seen, round_)} == set(CLIENTS)
    assert not [event for event in seen.events if isinstance(event, ReportRejected)]
    (started,) = [event for event in seen.events if isinstance(event, FederationStarted)]
    assert [client for client, _, _ in started.clients] == list(CLIENTS)


def test_a_client_that_is_not_asked_keeps_its_personal_model(profiles):
    seen = run_federation(profiles, rounds=4, **HALF)
    for (before, _), (after, _) in itertools.pairwise(seen.saved):
        idle = set(before.personal) - asked(seen, after.round)
        assert idle
        for client in idle:
            assert_same(after.personal[client], before.personal[client])
            assert after.clients[client] == before.clients[client]


@pytest.mark.parametrize("algorithm", ["flames", "fedbn", "scaffold", "fedavg"])
def test_a_resumed_federation_draws_the_same_clients(algorithm, profiles):
    whole = run_federation(profiles, algorithm, rounds=4, **HALF)
    first = run_federation(profiles, algorithm, rounds=2, **HALF)
    rest = run_federation(profiles, algorithm, rounds=4, resumed=first.state, **HALF)
    assert_same_state(rest.state, whole.state)
    assert without_timings(first.records + rest.records) == without_timings(whole.records)


def test_scaffold_divides_by_all_clients_also_if_some_are_not_asked(profiles):
    seen = run_federation(profiles, "scaffold", rounds=1, **HALF)
    assert len(seen.reports) == 3
    changes = sum(report.control["conv.weight"] for report in seen.reports)
    control = seen.state.optimiser_state["all"]["control"]["conv.weight"]
    np.testing.assert_allclose(control, changes / len(CLIENTS), rtol=1e-6)


def test_a_client_that_is_not_asked_lends_its_style(profiles):
    initial = {"conv.weight": np.zeros(3, np.float32), "renderer.w": np.zeros(2, np.float32)}
    entries = Entries(frozenset(initial), frozenset(), style=frozenset({"renderer.w"}))

    def train(request, weights, who):
        style = {"renderer.w": np.ones(2, np.float32)} if request.report_style else None
        return Report(who.client, who.modality, dict(weights), who.n_train, 1, {}, None, style)

    options = {"initial": initial, "entries": entries, "style_from": 2, "fraction": 0.1}
    seen = run_federation(profiles[:3], rounds=8, train=train, **options)
    assert len(seen.tasks) == 8
    assert all(task.request.report_style for task in seen.tasks)
    assert any(task.style is not None for task in seen.tasks[2:])
