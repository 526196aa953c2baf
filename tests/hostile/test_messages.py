"""What a node can send its server and a server its nodes, where either means harm."""

import struct
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

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
from flames_cli.fed.packed_weights import pack, unpack
from flames_cli.fed.records import unpack_weights
from flames_cli.fed.sanitise import LONGEST_REASON, error_reason
from flames_cli.fed.training import receive_model
from flames_cli.learn.train_options import TrainOptions, limits_of
from tests.support.memory import message_with_little_memory
from tests.support.packed import framed, message_with, record_with, spaced

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


PLAIN = ["w", "<f4", [2], 0]


def described(**changes):
    """Return the header of one entry, of which `changes` describe what is not as it is."""
    keys = ("name", "type", "shape", "offset")
    return [[changes.get(key, value) for key, value in zip(keys, PLAIN, strict=True)]]


def carrying(data):
    return message_with(record_with(data))


def test_the_weights_of_these_tests_are_such_as_are_read():
    np.testing.assert_array_equal(unpack_weights(carrying(framed([PLAIN], bytes(8))), ARRAYS)["w"], [0, 0])
    empty = framed(described(shape=[0, 3]))
    assert unpack_weights(carrying(empty), ARRAYS)["w"].shape == (0, 3)
    assert unpack_weights(carrying(framed([])), ARRAYS) == {}


SHAPES = ([-1], [-2, -1], [3], [2**63], [2**32, 2**32], [10**12], [10**99], [0, 2**62, 2**62], [2.0], 2, "2")
ODD_SHAPES = (["a"], [1] * 65, [True, 2**40], [None], [[2]], {"0": 2}, None, [0, 2**41], [2**20] * 32)
TYPES = ("|O", "|V8", "<U2", "|S8", "<M8[ns]", "f4,f4", "(2,)f4", "<c8", ">f4", "=f4", "<f16", "float32")
ODD_TYPES = ("f4", 5, None, [["a", "O"]], ["<f4", [2**29]], "<f4," * 100, "", "\x1b[2J")
HEADERS = (
    *(described(shape=shape) for shape in (*SHAPES, *ODD_SHAPES)),
    *(described(type=kind) for kind in (*TYPES, *ODD_TYPES)),
    *(described(offset=offset) for offset in (-64, 1, 64, 2**62, 2**99, True, 0.0, "0", None)),
    *(described(name=name) for name in (5, None, ["w"], True)),
    *([PLAIN, PLAIN], [[]], [PLAIN[:3]], [[*PLAIN, 0]], [5], ["wxyz"], {"w": 1}, 5, None, "w"),
    *([["v", "<f4", [0], 0], ["w", "<f4", [2], 64]], [PLAIN, ["v", "<f4", [2], 0]]),
)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: str(header)[:60])
def test_headers_of_weights_are_not_believed(header):
    message = carrying(framed(header, bytes(8)))
    with pytest.raises(ValueError, match="packed"):
        unpack_weights(message, ARRAYS)


def test_nothing_is_allocated_for_what_a_header_claims():
    messages = [carrying(framed(header, bytes(8))) for header in HEADERS]

    def read_all():
        for message in messages:
            with pytest.raises(ValueError, match="packed"):
                unpack_weights(message, ARRAYS)

    assert message_with_little_memory(read_all, 2**24) == "read: None"


def test_entries_may_not_overlap_or_be_out_of_order():
    good = [["a", "<f4", [2], 0], ["b", "<f4", [2], 64], ["c", "<f4", [2], 128]]
    data = spaced(*np.zeros((3, 2), np.float32))
    assert list(unpack_weights(carrying(framed(good, data)), ARRAYS)) == ["a", "b", "c"]
    for offsets in ([0, 0, 64], [0, 128, 64], [64, 0, 128], [0, 64, 192], [0, 8, 16], [0, 64, 64]):
        header = [[*entry[:3], offset] for entry, offset in zip(good, offsets, strict=True)]
        with pytest.raises(ValueError, match="is packed at byte"):
            unpack_weights(carrying(framed(header, data)), ARRAYS)


DEEP = b"[" * 100_000
GOOD = framed([PLAIN], bytes(8))
NOT_JSON = (b'{"a":' * 100_000, b"-" * 900 + b"1", b"\0", b"", b" " * 999, b"[NaN]", b"[Infinity]", b"[1] 2")
NOT_TEXT = (b'["\xff"]', b"\xff\xfe[\0]\0", b"\x80\x04N.")
NOT_ENTRIES = (b"1" * 9999, b"[" + b"[]," * 9999 + b"[]]", b"[1e999]")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"FLAMES", GOOD[:15], GOOD[:16], GOOD[:-1], GOOD + b"\0", GOOD[:64]),
        b"PK\x03\x04" + bytes(40),
        *(framed([PLAIN], bytes(8), magic=magic) for magic in (b"FLAMES\0\1", b"\x93NUMPY\1\0", bytes(8))),
        *(framed([PLAIN], bytes(8), version=version) for version in (0, 2, 2**32 - 1)),
        *(framed(text, bytes(8)) for text in (DEEP, *NOT_JSON, *NOT_TEXT, *NOT_ENTRIES)),
        framed(b"__import__('os').mkdir('code-has-run')"),
        *(GOOD[:12] + struct.pack("<I", length) + GOOD[16:] for length in (2**32 - 16, 2**32 - 1, 47)),
        framed([PLAIN]) + bytes(2**23),
        framed(b" " * (2**22 + 64) + b"[]"),
    ],
    ids=lambda data: f"{data[:40]} {len(data)}",
)
def test_only_packed_weights_are_read(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="packed") as caught:
        unpack_weights(carrying(data), ARRAYS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["\ud800", STEERING, "é" * 5000, ""])
def test_the_name_of_an_entry_is_shown_as_one_short_line(name):
    message = carrying(framed(described(name=name, type="|O"), bytes(8)))
    found, told = Reply(NODE, message).read(lambda sent: unpack_weights(sent, ARRAYS), "report")
    assert found is None
    assert told.isprintable()
    assert 0 < len(told) <= LONGEST_REASON


@given(st.data())
def test_a_changed_byte_gives_weights_of_the_same_size_or_a_reason(data):
    weights = {"a": np.arange(5, dtype=np.float32), "b": np.array(7), "c": np.zeros((0, 2), np.uint8)}
    packed = bytearray(pack(weights))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 8, 64]))
    with suppress(ValueError):
        found = unpack(bytes(packed[: len(packed) - cut]))
        assert sum(array.nbytes for array in found.values()) <= len(packed)


@given(st.binary(max_size=200))
def test_any_bytes_are_weights_or_a_reason(data):
    for packed in (data, GOOD[:16] + data, framed(data)):
        with suppress(ValueError):
            assert sum(array.nbytes for array in unpack(packed).values()) <= len(packed)


def test_flowers_own_reader_would_allocate_the_size_that_a_header_claims():
    """What packed weights avoid: Flower reads an array with numpy's reader of files."""
    told = repr({"descr": "<f4", "fortran_order": False, "shape": (10**11,)})
    data = b"\x93NUMPY\2\0" + struct.pack("<I", len(told)) + told.encode() + bytes(8)
    array = Array("float32", (2,), "numpy.ndarray", data)
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
                content[ARRAYS] = record_with(b"", STEERING)
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


@pytest.mark.parametrize("option", ["loss", "augmentations"])
@pytest.mark.parametrize(
    "value", ["os:system", "/etc/passwd", "a" * 41, STEERING, "a.b", "Gamma", "gamma\n", "-"]
)
def test_a_server_may_only_ask_for_names_of_a_registry(option, value):
    with pytest.raises(FlamesError, match=f"asks for {option} .*, expected names of at most 40") as error:
        unpack_task(asked(**{option: value}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("value", ["gamma,gamma", "gamma,", ",", ",".join(map(str, range(99)))])
def test_a_server_asks_for_each_augmentation_once_and_for_few(value):
    with pytest.raises(FlamesError, match="asks for augmentations"):
        unpack_task(asked(augmentations=value))


@pytest.mark.parametrize("names", [(), ("gamma",), ("gamma", "bias-field")])
def test_augmentations_travel_as_one_text(names):
    request = replace(REQUEST, training=replace(OPTIONS, augmentations=names, loss="another-loss"))
    assert flatten_request(request)["augmentations"] == ",".join(names)
    assert unpack_task(asked(**flatten_request(request))).request == request


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
    told = message_with_little_memory(lambda: receive_model(task, NodeSettings(()), {}).__enter__())
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
