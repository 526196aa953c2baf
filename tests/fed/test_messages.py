import gc
import json
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.coding import code
from flames_cli.core.federated.reports import Report
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import Preparation
from flames_cli.errors import FlamesError
from flames_cli.fed.messages import (
    ARRAYS,
    CONTROL,
    METRICS,
    PLUGINS,
    PREPARATION,
    PROTOCOL,
    REPORT,
    STYLE,
    TRAIN,
    TrainRequest,
    TrainTask,
    flatten_request,
    make_query,
    pack_profile,
    pack_report,
    pack_task,
    unpack_profile,
    unpack_report,
    unpack_task,
)
from flames_cli.fed.records import PACKED, STYPE, WIRE, message_bytes, pack_weights, unpack_weights
from flames_cli.fed.sanitise import error_reason
from flames_cli.learn.train_options import TrainOptions
from tests.support.asserts import assert_same
from tests.support.federation import make_profile
from tests.support.packed import entries_in, record_with

pytestmark = pytest.mark.usefixtures("identity")

NODE = 7
WEIGHTS = {
    "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.num_batches_tracked": np.array(41),
    "m.half": np.array([0.5, -1], np.float16),
}
OPTIONS = TrainOptions(local_epochs=2, batch_size=8, lr=1e-3, per_pixel_focal=True, augment=False)
REQUEST = TrainRequest(3, 5, "brats-1", OPTIONS, "unet", json.dumps({"depth": 2}))
REPORTED = Report("brats-1", "MRI", WEIGHTS, 12, 4, {"train_loss": 0.25, "best_epoch": 2.0})


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


def asking(wire, **parts):
    """Return a request whose floats travel as `wire`."""
    return pack_task(TrainTask(replace(REQUEST, wire_dtype=wire), WEIGHTS, **parts), NODE)


def both_ways(wire):
    """Return a request with every record that may travel, and the report on it."""
    parts = {"control": {"z.weight": WEIGHTS["z.weight"] / 3}, "style": {"z.weight": WEIGHTS["z.weight"] / 7}}
    message = asking(wire, **parts)
    return message, pack_report(replace(REPORTED, **parts), message)


def test_bytes_are_those_of_the_arrays_in_the_message():
    message = asking("fp32")
    assert message_bytes(message) == len(pack_weights(WEIGHTS)[PACKED].data)
    alone = len(pack_weights({"z.weight": WEIGHTS["z.weight"]})[PACKED].data)
    assert message_bytes(both_ways("fp32")[0]) == message_bytes(message) + 2 * alone
    assert message_bytes(make_query(NODE)) == 0


@pytest.mark.parametrize("wire", ["fp16", "bf16"])
def test_half_the_bytes_travel_both_ways(wire):
    large = {"w": np.full((64, 64), 1.5, np.float32), "count": np.array(3)}
    sizes = {}
    for kind in ("fp32", wire):
        message = pack_task(TrainTask(replace(REQUEST, wire_dtype=kind), large, large, large), NODE)
        reply = pack_report(replace(REPORTED, weights=large, control=large, style=large), message)
        sizes[kind] = message_bytes(message), message_bytes(reply)
    assert [full - half for full, half in zip(sizes["fp32"], sizes[wire], strict=True)] == [3 * 2 * 64**2] * 2


@pytest.mark.parametrize("wire", ["fp16", "bf16"])
def test_all_arrays_travel_in_half_their_bits_and_come_back_in_their_types(wire):
    message, reply = both_ways(wire)
    eps = {"fp16": 2**-11, "bf16": 2**-8}[wire]
    for passed, carried in ((message, unpack_task(message)), (reply, unpack_report(reply))):
        for record in (ARRAYS, CONTROL, STYLE):
            sent = entries_in(passed.content[record])["z.weight"].dtype
            assert sent == {"fp16": "float16", "bf16": "uint16"}[wire]
        assert list(carried.weights) == list(WEIGHTS)
        assert carried.weights["m.half"].dtype == np.float16
        np.testing.assert_array_equal(carried.weights["a.num_batches_tracked"], 41)
        for weights, part in ((carried.weights, 1), (carried.control, 3), (carried.style, 7)):
            assert weights["z.weight"].dtype == np.float32
            np.testing.assert_allclose(weights["z.weight"], WEIGHTS["z.weight"] / part, rtol=eps)


def test_a_genuine_uint16_is_not_mistaken_for_a_float():
    codes = np.array([0x3F80, 1, 65535], np.uint16)
    task = TrainTask(replace(REQUEST, wire_dtype="bf16"), {"codes": codes, "w": np.ones(3, np.float32)})
    assert_same(unpack_task(pack_task(task, NODE)).weights, task.weights)


def test_a_request_for_an_unknown_type_is_rejected():
    message = asking("fp32")
    message.content.config_records[TRAIN]["wire_dtype"] = "fp8"
    with pytest.raises(FlamesError, match="wire's type is 'fp8', expected one of fp32, fp16, bf16"):
        unpack_task(message)
    with pytest.raises(FlamesError, match="wire's type is 'fp8'"):
        pack_report(REPORTED, message)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"type": "fp8"}, "wire's type is 'fp8'"),
        ({"type": None}, "wire's type is 'None'"),
        ({"type": "fp16"}, "'z.weight' is uint16, described as float32 sent as fp16"),
        ({"type": "fp32"}, "sent as fp32; expected no such entry"),
        ({"arrays/gone": "float32"}, "'gone' is missing"),
        ({"arrays/z.weight": "complex64"}, "described as complex64"),
        ({"control/m.half": "float32"}, "'m.half' is missing"),
    ],
)
def test_a_report_with_a_wrong_description_of_its_types_is_rejected(changes, problem):
    reply = both_ways("bf16")[1]
    told = {**reply.content.config_records[WIRE], **changes}
    reply.content[WIRE] = ConfigRecord({key: value for key, value in told.items() if value is not None})
    with pytest.raises(FlamesError, match=problem):
        unpack_report(reply)


def test_a_value_outside_fp16_is_rejected_by_name_on_either_side():
    large = {"bn.running_var": np.array([1, 7e4], np.float32)}
    message = asking("fp16")
    for pack in (
        lambda: pack_task(TrainTask(replace(REQUEST, wire_dtype="fp16"), large), NODE),
        lambda: pack_report(replace(REPORTED, control=large), message),
    ):
        with pytest.raises(FlamesError, match=r"'bn\.running_var' contains 7e\+04.*pass --wire-dtype bf16"):
            pack()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("disk full", "disk full"),
        ("<class 'flames_cli.errors.FlamesError'>:<'it's full'>", "it's full"),
        ("<class 'ZeroDivisionError'>:<'by zero'>", "<class 'ZeroDivisionError'>:<'by zero'>"),
    ],
)
def test_a_nodes_error_is_reported_in_its_own_words(reason, told):
    assert error_reason(Message(Error(1, reason), reply_to=make_query(NODE))) == told


def test_a_report_comes_back_as_it_was_sent():
    report = unpack_report(pack_report(REPORTED, pack_task(TrainTask(REQUEST, WEIGHTS), NODE)))
    assert_same(report.weights, WEIGHTS)
    assert (report.client, report.modality, report.n_examples, report.n_steps) == ("brats-1", "MRI", 12, 4)
    assert report.metrics == REPORTED.metrics
    assert type(report.n_examples) is int


def test_a_profile_comes_back_as_it_was_sent():
    sent = make_profile("busi", "US", n_train=99)
    assert unpack_profile(pack_profile(sent, make_query(NODE))) == sent
    assert sent.protocol == PROTOCOL


def test_the_rules_of_a_clients_images_travel_with_its_profile():
    rules = Preparation((IntensityRule((-160.0, 240.0)),), ("axial",), ("aligned",))
    sent = make_profile("a", preparation=rules)
    assert unpack_profile(pack_profile(sent, make_query(NODE))) == sent


@pytest.mark.parametrize(
    "value",
    ["", "{}x", '{"intensities": [{"percentile": 1000}]}', " " * 30_000, 7, [1.0], '{"more": [{}]}' * 2],
)
def test_a_profile_with_impossible_rules_is_rejected(value):
    reply = pack_profile(make_profile("a"), make_query(NODE))
    reply.content.config_records[REPORT][PREPARATION] = value
    with pytest.raises((ValueError, TypeError)):
        unpack_profile(reply)


def test_the_plugins_that_a_site_allows_travel_with_its_profile():
    sent = make_profile("a", plugins='{"flames-example": "0.1.0", "other": ""}')
    assert unpack_profile(pack_profile(sent, make_query(NODE))) == sent


@pytest.mark.parametrize("value", ["", "{}x", '{"a": 1}', "[]", '{"a b": "1"}', 7, [1.0], " " * 30_000])
def test_a_profile_with_an_impossible_list_of_plugins_is_rejected(value):
    reply = pack_profile(make_profile("a"), make_query(NODE))
    reply.content.config_records[REPORT][PLUGINS] = value
    with pytest.raises((ValueError, TypeError)):
        unpack_profile(reply)


def test_a_profile_of_an_earlier_release_is_read_so_that_its_protocol_can_be_rejected():
    reply = pack_profile(make_profile("a", protocol=8), make_query(NODE))
    for name in (PREPARATION, PLUGINS):
        del reply.content.config_records[REPORT][name]
    assert unpack_profile(reply).protocol == 8


@settings(max_examples=25)
@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), hnp.array_shapes(min_dims=0))
)
def test_any_array_survives_the_way(array):
    message = Message(RecordDict({ARRAYS: pack_weights({"x": array})}), NODE, "train")
    assert_same(unpack_weights(message, ARRAYS), {"x": array})


def test_weights_are_read_from_their_folder():
    message = pack_task(TrainTask(REQUEST, WEIGHTS), NODE)
    for array in unpack_task(message).weights.values():
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_a_message_that_was_read_is_let_go_at_once():
    message = pack_task(TrainTask(replace(REQUEST, wire_dtype="bf16"), WEIGHTS), NODE)
    reply = pack_report(REPORTED, message)
    read = [weakref.ref(one.content) for one in (message, reply)]
    gc.disable()
    try:
        assert message_bytes(message) == message_bytes(reply)
        unpack_task(message), unpack_report(reply)
        del message, reply
        assert [content() for content in read] == [None, None]
    finally:
        gc.enable()


def test_a_request_carries_weights_and_the_options_of_training_only():
    content = pack_task(TrainTask(REQUEST, WEIGHTS), NODE).content
    assert set(content) == {ARRAYS, TRAIN}
    assert_same(entries_in(content[ARRAYS]), WEIGHTS)
    assert dict(content.config_records[TRAIN]) == flatten_request(REQUEST)
    names = {entry.name for kind in (TrainRequest, TrainOptions) for entry in fields(kind)}
    assert set(content.config_records[TRAIN]) == names - {"training", "weight_decay", "grad_clip"}


def test_an_option_without_a_value_does_not_travel():
    for decay in (None, 0.1):
        request = replace(REQUEST, training=replace(OPTIONS, weight_decay=decay))
        assert unpack_task(pack_task(TrainTask(request, WEIGHTS), NODE)).request == request


def test_a_report_carries_weights_a_name_and_means_only():
    content = pack_report(REPORTED, pack_task(TrainTask(REQUEST, WEIGHTS), NODE)).content
    assert set(content) == {ARRAYS, REPORT, METRICS}
    assert dict(content.config_records[REPORT]) == {
        "client": "brats-1",
        "modality": "MRI",
        "round": REQUEST.round,
    }
    assert dict(content.metric_records[METRICS]) == {"n_examples": 12, "n_steps": 4, **REPORTED.metrics}


@pytest.mark.parametrize("wire", ["fp32", "fp16", "bf16", "int8"])
def test_a_coded_report_is_read_with_the_model_that_was_sent(wire):
    server = {**WEIGHTS, "b.weight": np.linspace(1, 2, 5000, dtype=np.float32)}
    message = pack_task(TrainTask(replace(REQUEST, wire_dtype=wire), server), NODE)
    received = unpack_task(message).weights
    trained = {**received, "b.weight": received["b.weight"] + np.float32(0.25)}
    coded = code(trained, received, wire, {})
    reply = pack_report(replace(REPORTED, weights=trained), message, coded)
    asked = []
    report = unpack_report(reply, lambda choice: asked.append(choice) or server)
    assert asked == [None]
    assert list(report.weights) == list(server)
    for name, array in server.items():
        moved = 0.25 if name == "b.weight" else 0
        np.testing.assert_allclose(report.weights[name], array + moved, rtol=1e-3)
    with pytest.raises(FlamesError, match="described as same sent as"):
        unpack_report(reply)
    whole = pack_report(replace(REPORTED, weights=trained), message)
    assert message_bytes(reply) < message_bytes(whole)


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
        ({REPORT: ConfigRecord({"client": "a", "modality": "CT", "round": True})}, TypeError),
        ({REPORT: ConfigRecord({"client": "a", "modality": "CT", "round": 1.5})}, TypeError),
        ({ARRAYS: record_with(b"", "pickle")}, TypeError),
        ({ARRAYS: record_with(b"no array")}, ValueError),
        ({ARRAYS: ArrayRecord({"w": Array(np.ones(2))})}, ValueError),
    ],
)
def test_an_invalid_report_is_rejected(records, error):
    with pytest.raises(error):
        unpack_report(report_with(**records))


def test_an_array_of_objects_is_never_unpickled():
    data = np.array([{}], dtype=object).dumps()
    for stype in (STYPE, "numpy.ndarray"):
        with pytest.raises((TypeError, ValueError), match="weights"):
            unpack_report(report_with(**{ARRAYS: record_with(data, stype)}))


def test_weights_as_earlier_releases_sent_them_are_rejected_with_what_helps():
    earlier = ArrayRecord({name: Array(np.asarray(array)) for name, array in WEIGHTS.items()})
    with pytest.raises(ValueError, match="are 3 arrays, expected 'packed' alone; install the same version"):
        unpack_report(report_with(**{ARRAYS: earlier}))


def test_a_message_is_a_handful_of_flowers_objects():
    many = {f"{number}.weight": np.full(300, number, np.float32) for number in range(136)}
    message = pack_task(TrainTask(REQUEST, many), NODE)
    assert len(get_all_nested_objects(message)) == 6
    large = {"w": np.zeros(11 * 2**18, np.float32), "v": np.arange(11 * 2**18, dtype=np.float32)}
    assert len(get_all_nested_objects(pack_task(TrainTask(REQUEST, large), NODE))) <= 5 + 5


def test_a_profile_with_other_fields_is_none():
    strange = Message(RecordDict({REPORT: ConfigRecord({"name": "busi"})}), reply_to=make_query(NODE))
    with pytest.raises(TypeError):
        unpack_profile(strange)


def test_a_request_lives_longer_than_flowers_12_hours_and_its_reply_as_long():
    message = pack_task(TrainTask(REQUEST, WEIGHTS), NODE)
    assert message.metadata.ttl == 7 * 24 * 3600
    reply = pack_report(REPORTED, message)
    assert 6.9 * 24 * 3600 < reply.metadata.ttl <= 7 * 24 * 3600
