"""What a node can send its server and a server its nodes, where either means harm."""

import struct
from dataclasses import fields, replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flames_cli.core.federated.reports import Report
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.exchange import Reply
from flames_cli.fed.messages import (
    ARRAYS,
    LIMITS,
    METRICS,
    REPORT,
    TRAIN,
    TrainRequest,
    TrainTask,
    flatten_request,
    make_query,
    pack_report,
    pack_task,
    unpack_profile,
    unpack_report,
    unpack_task,
)
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.records import unpack_weights
from flames_cli.fed.sanitise import LONGEST_REASON, error_reason
from flames_cli.fed.training import receive_model
from flames_cli.learn.train_options import TrainOptions, limits_of
from tests.support.memory import message_with_little_memory

NODE = 7
OPTIONS = TrainOptions(local_epochs=2, batch_size=8, lr=1e-3, weight_decay=0.1, grad_clip=1.0, augment=False)
REQUEST = TrainRequest(3, 5, "busi", OPTIONS, "unet", '{"depth": 2}')
ENTRIES = flatten_request(REQUEST)
LIMITED = {entry.name: limits for entry in fields(TrainOptions) if (limits := limits_of(entry))}
WEIGHTS = {"w": np.ones((2, 3), np.float32)}
STEERING = "\x1b[2J\x1b]0;owned\x07\r\n\u202e" * 1000
REFUSED = (FlamesError, KeyError, TypeError, ValueError)


@pytest.fixture(autouse=True)
def _identity():
    """Messages take their sender from this process's identity."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def npy(data=bytes(8), version=1, **header):
    """An array as numpy saves it; `header` tells what is not as it is."""
    told = repr({"descr": "<f4", "fortran_order": False, "shape": (2,), **header})
    return framed(told, data, version)


def framed(header, data=bytes(8), version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def carrying(data, kind="numpy.ndarray"):
    return Message(
        RecordDict({ARRAYS: ArrayRecord({"w": Array("float32", (2,), kind, data)})}), NODE, "train"
    )


def test_the_arrays_of_these_tests_are_such_as_are_read():
    np.testing.assert_array_equal(unpack_weights(carrying(npy()), ARRAYS)["w"], [0, 0])
    assert unpack_weights(carrying(npy(b"", shape=(0, 3))), ARRAYS)["w"].shape == (0, 3)


HEADERS = (
    *({"shape": shape} for shape in ((-1,), (-2, -1), (3,), (2**63,), (2**32, 2**32), (10**12,), (10**99,))),
    *({"shape": shape} for shape in ((0, 2**62, 2**62), (2.0,), 2, [2], ("a",), (1,) * 65, (True, 2**40))),
    *({"descr": kind} for kind in ("|O", "|V8", "<U2", "|S8", "<M8[ns]", "f4,f4", "(2,)f4", "<c8", 5, None)),
    *({"descr": kind} for kind in ([("a", "O")], [("a", "<f4", (2,))], ("<f4", (2**29,)), "<f4," * 100)),
    {"fortran_order": 1},
    {"extra": 1},
)


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_headers_of_arrays_are_not_believed(header):
    message = carrying(npy(**header))
    with pytest.raises((TypeError, ValueError)):
        unpack_weights(message, ARRAYS)
    assert message_with_little_memory(lambda: unpack_weights(message, ARRAYS)).startswith(
        ("TypeError", "ValueError")
    )


@pytest.mark.parametrize(
    "data",
    [
        *(npy(version=version, shape=(10**11,)) for version in (2, 3, 9)),
        *(framed(text) for text in ("[" * 900, "-" * 900 + "1", "(" * 400 + ")" * 400, "\0", " " * 60_000)),
        framed("__import__('os').mkdir('code-has-run')"),
        *(b"", b"\x93NUMPY\x01\0", b"\x93NUMPY\x01\0\xff", b"PK\x03\x04" + bytes(40), b"\x80\x04N."),
        npy() + bytes(100),
    ],
)
def test_only_numpys_format_for_numbers_is_read(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError)):
        unpack_weights(carrying(data), ARRAYS)
    assert not list(tmp_path.iterdir())


def test_numpys_own_reader_would_allocate_the_size_that_a_header_claims():
    """What the tests above are against."""
    array = Array("float32", (2,), "numpy.ndarray", npy(version=2, shape=(10**11,)))
    assert message_with_little_memory(array.numpy).startswith(("MemoryError", "_ArrayMemoryError"))


@pytest.mark.parametrize("what", ["reason", "metric", "array kind", "array name", "client"])
def test_a_nodes_text_is_shown_as_one_short_line(what):
    report = pack_report(Report("busi", "US", WEIGHTS, 1), pack_task(TrainTask(REQUEST, WEIGHTS), NODE))
    content = report.content
    if what == "reason":
        told = error_reason(Message(Error(1, STEERING), reply_to=make_query(NODE)))
    else:
        match what:
            case "metric":
                content[METRICS] = MetricRecord({"n_examples": 1, "n_steps": 1, STEERING: 1.0})
            case "array kind":
                content[ARRAYS] = ArrayRecord({"w": Array("float32", (2,), STEERING, b"")})
            case "array name":
                content["wire"] = ConfigRecord({"type": "fp16", f"arrays/{STEERING}": "float32"})
            case "client":
                content[REPORT] = ConfigRecord({"client": 5.0, STEERING: 5.0})
        found, told = Reply(NODE, report).read(unpack_report, "report")
        assert found is None
    assert told.isprintable()
    assert 0 < len(told) <= LONGEST_REASON


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "\u202e", "a" * 201, "\0"])
def test_a_name_that_steers_a_terminal_is_no_profile(name):
    profile = {"modality": "US", "organ": "breast", "n_train": 1, "n_val": 1, "size": 8}
    content = RecordDict({REPORT: ConfigRecord({"client": name, **profile})})
    with pytest.raises(ValueError, match="is not a name"):
        unpack_profile(Message(content, NODE, "query"))


def asked(**changes):
    """A request, some of its entries changed."""
    message = pack_task(TrainTask(REQUEST, WEIGHTS), NODE)
    message.content[TRAIN] = ConfigRecord({**ENTRIES, **changes})
    return message


@pytest.mark.parametrize("name", LIMITS)
def test_a_server_may_not_ask_for_just_any_number(name):
    low, high = LIMITS[name]
    kind = type(ENTRIES[name])
    for value in (kind(low), kind(high)):
        unpack_task(asked(**{name: value}))
    for value in (kind(low - 1), kind(high + 1), kind(2**62), *([np.nan, np.inf] if kind is float else [])):
        with pytest.raises(FlamesError, match=f"asks for {name}"):
            unpack_task(asked(**{name: value}))


@pytest.mark.parametrize("name", LIMITED)
def test_a_server_may_not_ask_for_options_beyond_their_limits(name):
    limits, kind = LIMITED[name], type(ENTRIES[name])
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    assert high is not None
    unpack_task(asked(**{name: kind(high)}))
    too_low = kind(low) if "gt" in limits else kind(low - 1)
    for value in (too_low, kind(high + 1), kind(2**62), *([np.nan, np.inf] if kind is float else [])):
        with pytest.raises(FlamesError, match=f"asks for {name} .*, expected "):
            unpack_task(asked(**{name: value}))


def test_a_server_may_not_ask_for_a_choice_that_is_not_known():
    with pytest.raises(FlamesError, match="asks for optimiser 'lion', expected adam or adamw or sgd"):
        unpack_task(asked(optimiser="lion"))


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("value", ["x", b"x", [1], True, 1.5, 2])
def test_every_entry_of_a_request_has_its_type(name, value):
    expected = ENTRIES[name]
    fits = type(value) is type(expected) or (type(expected) is float and type(value) is int)
    if not fits:
        with pytest.raises(REFUSED):
            unpack_task(asked(**{name: value}))


@pytest.mark.parametrize(
    "options",
    [
        *("", "[]", "5", "null", "[" * 100_000, '{"a":' * 100_000, '{"depth": "2"}', '{"depth": [2]}'),
        *('{"in_channels": 1000000000}', '{"depth": 1e999}', '{"depth": NaN}', '{"depth": -1e9}'),
        '{"encoder_weights": "/etc/passwd"}',
    ],
)
def test_options_of_a_model_are_small_numbers(options):
    with pytest.raises((FlamesError, ValueError)):
        unpack_task(asked(model_options=options))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("../../x", "{}"),
        ("resnet", "{}"),
        ("unet", '{"seed": 3}'),
        ("unet", '{"name": 3}'),
        ("unet", '{"encoder_weights": 3}'),
        ("unet", '{"depth": 4096}'),
        ("unet", '{"base_channels": 4096, "depth": 4}'),
        ("unet", '{"dropout": 1}'),
        ("unet", '{"depth": true}'),
        ("sdnet", '{"style_dims": 4096}'),
    ],
)
def test_a_model_that_is_not_known_is_not_built(model, options):
    task = unpack_task(asked(model=model, model_options=options))
    told = message_with_little_memory(lambda: receive_model(task, {}))
    assert told.startswith(("FlamesError", "TypeError"))


@pytest.mark.parametrize("run", ["", "../../x", "/etc", "0" * 15, "0" * 17, "0" * 15 + "/", "0" * 16 + "\n"])
def test_a_run_cannot_be_called_as_a_path(run, tmp_path):
    with pytest.raises(FlamesError, match="expected 16 hex digits"):
        client_state_folder(NodeSettings((), client_state=tmp_path), run, "busi")


@pytest.mark.parametrize("client", ["../../x", "/etc/passwd", "..", ".", "a/b", "a\0b", "C:\\x", "\x1b[31m"])
def test_whatever_a_client_is_called_it_has_a_folder_in_its_runs(client, tmp_path):
    folder = client_state_folder(NodeSettings((), client_state=tmp_path), "0" * 16, client)
    assert folder.resolve().parent == (tmp_path / ("0" * 16)).resolve()
    assert folder.name.isprintable()


def test_a_good_request_is_read():
    assert unpack_task(asked()).request == REQUEST
    assert unpack_task(asked(lr=1)).request == replace(REQUEST, training=replace(OPTIONS, lr=1))
