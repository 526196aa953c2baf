import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.reports import Report
from flames_cli.fed.messages import (
    ARRAYS,
    METRICS,
    PROTOCOL,
    REPORT,
    TRAIN,
    TrainRequest,
    TrainTask,
    make_query,
    pack_profile,
    pack_report,
    pack_task,
    pack_weights,
    unpack_profile,
    unpack_report,
    unpack_task,
    unpack_weights,
    weights_bytes,
)

pytestmark = pytest.mark.usefixtures("identity")

NODE = 7
WEIGHTS = {
    "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.num_batches_tracked": np.array(41),
    "m.half": np.array([0.5, -1], np.float16),
}
REQUEST = TrainRequest(3, 5, "brats-1", 2, 8, 1e-3, 0.3, True, False, "unet", json.dumps({"depth": 2}))
REPORTED = Report("brats-1", "MRI", WEIGHTS, 12, 4, {"train_loss": 0.25, "best_epoch": 2.0})


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_a_request_comes_back_as_it_was_sent():
    message = pack_task(TrainTask(REQUEST, WEIGHTS), NODE)
    task = unpack_task(message)
    assert task.request == REQUEST
    assert_same(task.weights, WEIGHTS)
    assert (task.control, task.style) == (None, None)
    assert message.metadata.dst_node_id == NODE
    assert message.metadata.group_id == "3"


def test_control_variates_and_a_renderer_travel_both_ways():
    control, style = {"z.weight": WEIGHTS["z.weight"] + 1}, {"m.half": WEIGHTS["m.half"]}
    message = pack_task(TrainTask(REQUEST, WEIGHTS, control, style), NODE)
    report = unpack_report(pack_report(replace(REPORTED, control=control, style=style), message))
    for carried in (unpack_task(message), report):
        assert_same(carried.weights, WEIGHTS)
        assert_same(carried.control, control)
        assert_same(carried.style, style)


def test_bytes_count_all_that_travels():
    assert weights_bytes(WEIGHTS, None, {"z": np.zeros(3, np.float32)}) == weights_bytes(WEIGHTS) + 12


def test_a_report_comes_back_as_it_was_sent():
    report = unpack_report(pack_report(REPORTED, pack_task(TrainTask(REQUEST, WEIGHTS), NODE)))
    assert_same(report.weights, WEIGHTS)
    assert (report.client, report.modality, report.n_examples, report.n_steps) == ("brats-1", "MRI", 12, 4)
    assert report.metrics == REPORTED.metrics
    assert type(report.n_examples) is int


def test_a_profile_comes_back_as_it_was_sent(profile):
    sent = profile("busi", "US", n_train=99)
    assert unpack_profile(pack_profile(sent, make_query(NODE))) == sent
    assert sent.protocol == PROTOCOL


@settings(deadline=None, max_examples=25)
@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), hnp.array_shapes(min_dims=0))
)
def test_any_array_survives_the_way(array):
    message = Message(RecordDict({ARRAYS: pack_weights({"x": array})}), NODE, "train")
    assert_same(unpack_weights(message), {"x": array})


def test_bytes_of_a_model_are_those_of_its_arrays():
    assert weights_bytes(WEIGHTS) == 6 * 4 + 8 + 2 * 2
    assert weights_bytes({}) == 0


def test_a_request_carries_weights_and_the_options_of_training_only():
    content = pack_task(TrainTask(REQUEST, WEIGHTS), NODE).content
    assert set(content) == {ARRAYS, TRAIN}
    assert set(content.array_records[ARRAYS]) == set(WEIGHTS)
    assert dict(content.config_records[TRAIN]) == asdict(REQUEST)
    assert set(content.config_records[TRAIN]) == {entry.name for entry in fields(TrainRequest)}


def test_a_report_carries_weights_a_name_and_means_only():
    content = pack_report(REPORTED, pack_task(TrainTask(REQUEST, WEIGHTS), NODE)).content
    assert set(content) == {ARRAYS, REPORT, METRICS}
    assert dict(content.config_records[REPORT]) == {"client": "brats-1", "modality": "MRI"}
    assert dict(content.metric_records[METRICS]) == {"n_examples": 12, "n_steps": 4, **REPORTED.metrics}


def test_a_query_is_empty():
    assert len(make_query(NODE).content) == 0


def report_with(**records):
    good = pack_report(REPORTED, pack_task(TrainTask(REQUEST, WEIGHTS), NODE)).content
    content = RecordDict({name: record for name, record in {**good, **records}.items() if record is not None})
    return Message(content, NODE, "train")


@pytest.mark.parametrize("name", [ARRAYS, REPORT, METRICS])
def test_a_report_without_a_record_is_none(name):
    with pytest.raises(KeyError):
        unpack_report(report_with(**{name: None}))


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ({METRICS: MetricRecord({"n_steps": 1})}, KeyError),
        ({METRICS: MetricRecord({"n_examples": [1, 2], "n_steps": 1})}, TypeError),
        ({METRICS: MetricRecord({"n_examples": float("nan"), "n_steps": 1})}, ValueError),
        ({REPORT: ConfigRecord({"client": "brats-1"})}, KeyError),
        ({ARRAYS: ArrayRecord({"w": Array("float32", (1,), "pickle", b"")})}, TypeError),
        ({ARRAYS: ArrayRecord({"w": Array("float32", (1,), "numpy.ndarray", b"no array")})}, ValueError),
    ],
)
def test_a_report_that_is_none_is_refused(records, error):
    with pytest.raises(error):
        unpack_report(report_with(**records))


def test_an_array_of_objects_is_never_unpickled():
    data = np.array([{}], dtype=object).dumps()
    with pytest.raises(ValueError, match="pickle"):
        unpack_report(
            report_with(**{ARRAYS: ArrayRecord({"w": Array("object", (1,), "numpy.ndarray", data)})})
        )


def test_a_profile_with_other_fields_is_none():
    strange = Message(RecordDict({REPORT: ConfigRecord({"name": "busi"})}), reply_to=make_query(NODE))
    with pytest.raises(TypeError):
        unpack_profile(strange)
