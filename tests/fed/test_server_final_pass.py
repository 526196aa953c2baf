"""The server's side of the pass after the last round: usable reports are pooled, others have a reason."""

import re
from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.reports import Entries, Report
from flames_cli.errors import FlamesError
from flames_cli.fed.events import FinalModelsExamined
from flames_cli.fed.federation import EarlierRounds
from flames_cli.fed.final_report import FinalReport
from flames_cli.learn.train_options import TrainOptions
from tests.support.federation import make_profile, run_federation

INITIAL = {
    "conv.weight": np.ones((2, 3), np.float32),
    "norm.running_mean": np.zeros(2, np.float32),
    "norm.running_var": np.ones(2, np.float32),
}
ENTRIES = Entries(
    trainable=frozenset({"conv.weight"}),
    norm=frozenset({"norm.running_mean", "norm.running_var"}),
    variances=frozenset({"norm.running_var"}),
)
CLIENTS = [make_profile("a", n_train=10), make_profile("b", n_train=30)]


def train(request, weights, who):
    return Report(who.client, who.modality, dict(weights), who.n_train, 1, {"train_loss": 0.5})


def statistics(mean):
    return {
        "norm.running_mean": np.full(2, mean, np.float32),
        "norm.running_var": np.full(2, 2.0, np.float32),
    }


def good(task, who):
    """Return a report whose means are 1 for client a and 5 for client b."""
    own = statistics(1.0 if who.client == "a" else 5.0)
    server = own if task.server is not None else {}
    return FinalReport(who.client, who.modality, 0, who.n_train, own, server, {"val_dice": 0.5})


def run(examine, **options):
    return run_federation(
        CLIENTS, rounds=1, train=train, examine=examine, initial=INITIAL, entries=ENTRIES, **options
    ).final


def test_statistics_are_weighed_by_images():
    found = run(good)
    np.testing.assert_allclose(found.state.statistics.groups["MRI"]["norm.running_mean"], 4.0)
    np.testing.assert_allclose(found.state.statistics.groups["MRI"]["norm.running_var"], 5.0)
    assert sorted(found.state.statistics.clients) == ["a", "b"]
    assert [entry["val_dice"] for entry in found.as_json()["clients"]] == [0.5, 0.5]


def test_a_model_of_all_clients_is_used_on_a_modality_with_the_statistics_of_its_images():
    clients = [*CLIENTS, make_profile("c", modality="US", n_train=10)]
    found = run_federation(
        clients, "fedavg", rounds=1, train=train, examine=good, initial=INITIAL, entries=ENTRIES
    ).final.state
    means = {name: found.final_server_model("all", name)["norm.running_mean"] for name in ("MRI", "US", "CT")}
    np.testing.assert_allclose(means["MRI"], 4.0)
    np.testing.assert_allclose(means["US"], 5.0)
    np.testing.assert_allclose(means["CT"], 4.2)


def test_a_client_is_sent_the_server_model_only_if_its_own_is_another():
    sent = {}

    def examine(task, who):
        sent[who.client] = task.server is not None
        return good(task, who)

    run(examine)
    assert sent == {"a": True, "b": True}
    run(examine, algorithm="fedavg")
    assert sent == {"a": False, "b": False}


@pytest.mark.parametrize("options", [{"precise_norm": False}, {"norm": "frozen"}, {"norm": "group"}])
def test_without_statistics_to_estimate_the_server_model_is_sent_to_nobody(options):
    """A client with a model of its own could compute those of two other clients from both."""
    sent = {}

    def examine(task, who):
        sent[who.client] = (task.server, task.request.report_statistics)
        return replace(good(task, who), own={}, server={})

    found = run(examine, training=TrainOptions(**options))
    assert sent == {"a": (None, False), "b": (None, False)}
    assert (found.missing, found.state.statistics) == ({}, FinalStatistics())


FAULTS = {
    "another name": (lambda r: replace(r, client="x"), "it reports as 'x', it joined as 'b'"),
    "no images": (lambda r: replace(r, n_examples=0), "it reports 0 examples, it joined with 30"),
    "more images": (lambda r: replace(r, n_examples=31), "it reports 31 examples, it joined with 30"),
    "more patients": (
        lambda r: replace(r, validation={"n_val": 1, "n_val_patients": 2}),
        "it reports 2 patients of 1 validation images",
    ),
    "more validation images": (
        lambda r: replace(r, validation={"n_val": 2}),
        "it reports 2 validation images, it joined with 1",
    ),
    "no Dice": (
        lambda r: replace(r, validation={"val_dice": 1.5}),
        "it reports a validation Dice of 1.5, expected 0 to 1",
    ),
    "not finite": (lambda r: replace(r, own=statistics(np.nan)), "its statistics: .* not finite"),
    "negative": (
        lambda r: replace(r, own={**r.own, "norm.running_var": np.float32([-1, 1])}),
        "its statistics: 'norm.running_var' contains a negative variance",
    ),
    "missing": (lambda r: replace(r, server={}), "its statistics: "),
    "other entries": (
        lambda r: replace(r, own={**r.own, "conv.weight": INITIAL["conv.weight"]}),
        "its statistics: ",
    ),
    "another shape": (
        lambda r: replace(r, own={**r.own, "norm.running_var": np.ones(3, np.float32)}),
        "its statistics: ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_report_that_cannot_be_used_has_a_reason_and_no_effect(fault):
    change, reason = FAULTS[fault]
    found = run(lambda task, who: change(good(task, who)) if who.client == "b" else good(task, who))
    assert list(found.missing) == ["b"]
    assert re.match(reason, found.missing["b"])
    assert list(found.state.statistics.clients) == ["a"]
    np.testing.assert_allclose(found.state.statistics.groups["MRI"]["norm.running_mean"], 1.0)


def test_a_client_that_fails_is_named_and_the_others_count():
    def examine(task, who):
        if who.client == "a":
            raise ValueError("broken")
        return good(task, who)

    found = run(examine)
    assert "broken" in found.missing["a"]
    assert list(found.state.statistics.clients) == ["b"]


@pytest.mark.parametrize("algorithm", ["fedavg", "flames"])
def test_every_client_evaluates_the_final_model_with_its_own_statistics(algorithm):
    received = {}

    def evaluate(task, who, message):
        received[who.client] = task.weights["norm.running_mean"].tolist()
        raise FlamesError("seen")

    run(good, algorithm=algorithm, test=evaluate)
    assert received == {"a": [1.0, 1.0], "b": [5.0, 5.0]}


@pytest.mark.parametrize("algorithm", ["fedavg", "flames"])
def test_the_best_earlier_round_is_examined_after_the_last_and_evaluated(algorithm):
    """A client that joined after it has no model of that round, and is named."""
    first = run_federation(CLIENTS, algorithm, rounds=1, train=train, initial=INITIAL, entries=ENTRIES).state
    examined, saved, received = [], [], {}

    def find_best(last, on_event):
        assert (last.state.round, bool(last.state.statistics)) == (2, True)
        yield first

    def examine(task, who):
        examined.append((task.request.round, who.client))
        return replace(good(task, who), round=task.request.round)

    def evaluate(task, who, message):
        received[who.client] = task.weights["norm.running_mean"].tolist()
        raise FlamesError("seen")

    late = make_profile("u", "US", n_train=5)
    seen = run_federation(
        [*CLIENTS, late],
        algorithm,
        rounds=2,
        resumed=first,
        train=train,
        examine=examine,
        test=evaluate,
        earlier=EarlierRounds(find_best, saved.append, lambda last: saved[0]),
        initial=INITIAL,
        entries=ENTRIES,
    )
    own = ["a", "b", "u"] if algorithm == "fedavg" else ["a", "b"]
    assert examined == [(2, "a"), (2, "b"), (2, "u"), *((1, client) for client in own)]
    (state,) = saved
    assert (state.round, sorted(state.statistics.clients)) == (1, own)
    (event,) = (one for one in seen.events if isinstance(one, FinalModelsExamined))
    assert [one["round"] for one in event.record["earlier"]] == [1]
    assert sorted(received) == own
    ((round_, _, silent),) = seen.tests
    assert round_ == 1
    assert silent.get("u") == ("seen" if algorithm == "fedavg" else "its first model is newer than round 1")
