"""Final evaluation: after the last round every client evaluates its model on its own data."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import REPORTED_METRICS
from flames_cli.errors import FlamesError
from flames_cli.fed.evaluation_report import EvaluationReport, pack_evaluation, unpack_evaluation
from flames_cli.fed.messages import METRICS, REPORT
from tests.support.federation import make_profile, run_federation

GOOD = Summary(0.5, 0.25, 9, 0)


@pytest.fixture
def profiles():
    return [make_profile("a"), make_profile("b"), make_profile("u", "US")]


def report(client="a", modality="MRI", **changes):
    return EvaluationReport(client, modality, 9, {name: changes.get(name, GOOD) for name in REPORTED_METRICS})


def well(task, who, message):
    return pack_evaluation(report(who.client, who.modality), message)


def test_each_client_tests_its_own_final_model(profiles):
    received = {}

    def test(task, who, message):
        received[who.client] = task.weights
        return well(task, who, message)

    seen = run_federation(profiles, rounds=2, test=test)
    ((round_, reports, silent),) = seen.tests
    assert (round_, silent) == (2, {})
    assert [told.client for told in reports] == ["a", "b", "u"]
    for client, weights in received.items():
        for name, array in seen.state.personal[client].items():
            np.testing.assert_array_equal(weights[name], array)


def test_a_finished_run_may_be_tested_alone(profiles):
    done = run_federation(profiles, rounds=2)
    seen = run_federation(profiles, rounds=2, resumed=done.state, test=well)
    assert seen.requests == []
    assert [told.client for told in seen.tests[0][1]] == ["a", "b", "u"]


def test_a_client_without_a_report_is_named_with_the_reason(profiles):
    def test(task, who, message):
        if who.client == "a":
            raise FlamesError("its test set is too small")
        return well(task, replace(who, client="somebody" if who.client == "b" else who.client), message)

    ((_, reports, silent),) = run_federation(profiles, test=test).tests
    assert [told.client for told in reports] == ["u"]
    assert silent == {"a": "its test set is too small", "b": "it reports as 'somebody', it joined as 'b'"}


def test_a_client_that_has_left_is_named(profiles):
    done = run_federation(profiles, rounds=2)
    ((_, reports, silent),) = run_federation(profiles[:2], rounds=2, resumed=done.state, test=well).tests
    assert [told.client for told in reports] == ["a", "b"]
    assert silent == {"u": "it was not present for the evaluation"}


@pytest.mark.parametrize(
    "changed",
    [
        {"n": math.inf},
        {"n": math.nan},
        {"dice.n": math.inf},
        {"dice.mean": None},
        {"dice.mean": 1.5},
        {"dice.mean": math.nan},
        {"hausdorff_px.mean": -1.0},
        {"iou.n": -1},
    ],
)
def test_numbers_that_cannot_be_read_or_be_true_cost_no_other_test(changed, profiles):
    def test(task, who, message):
        reply = well(task, who, message)
        if who.client == "b":
            numbers = {**reply.content.metric_records[METRICS], **changed}
            kept = MetricRecord({name: value for name, value in numbers.items() if value is not None})
            identity = ConfigRecord({"client": "b", "modality": "MRI"})
            return Message(RecordDict({REPORT: identity, METRICS: kept}), reply_to=message)
        return reply

    ((_, reports, silent),) = run_federation(profiles, test=test).tests
    assert [told.client for told in reports] == ["a", "u"]
    assert silent["b"].startswith("its evaluation report cannot be read")


def test_a_report_comes_back_as_it_was_packed(profiles):
    told = replace(report(hausdorff_px=Summary(math.nan, math.nan, 0, 9)), cases={"dice": [0.25, 0.75]})
    replies = []

    def test(task, who, message):
        replies.append(pack_evaluation(told, message))
        return replies[-1]

    run_federation(profiles[:1], test=test)
    again = unpack_evaluation(replies[0])
    assert again.cases == told.cases
    assert again.metrics["dice"] == GOOD
    assert math.isnan(again.metrics["hausdorff_px"].mean)


def test_an_entry_is_json_even_if_a_distance_is_infinite():
    told = replace(
        report(hausdorff_px=Summary(math.nan, math.nan, 0, 2)), cases={"hausdorff_px": [3.0, math.inf]}
    )
    line = json.loads(json.dumps(told.as_json(), allow_nan=False))
    assert line["metrics"]["hausdorff_px"] == {"mean": None, "sd": None, "n": 0, "n_infinite": 2}
    assert line["cases"] == {"hausdorff_px": [3.0, None]}
