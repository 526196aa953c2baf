"""What travels: profiles, models and reports, as Flower messages and back."""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.reports import Report
from flames_cli.core.wire import check_wire, narrow, widen
from flames_cli.errors import FlamesError
from flames_cli.store.parse import parse_json
from flames_cli.store.schema import SHARD

PROTOCOL = 5
"""Of these messages; a node that speaks another one is refused."""

_WRAPPED = re.compile(r"^<class 'flames_cli\.[\w.]+'>:<'(.*)'>$", re.DOTALL)

R = TypeVar("R", ArrayRecord, ConfigRecord, MetricRecord)

_NUMPY_FORMAT = np.lib.format.magic(1, 0)
"""How arrays begin that numpy saved."""

REPORTED = {
    *("n_examples", "n_steps", "train_loss", "best_epoch"),
    *("received_val_loss", "received_val_dice", "trained_val_loss", "trained_val_dice"),
}
"""The numbers that a report may tell beside its weights."""

ARRAYS, TRAIN, REPORT, METRICS = "arrays", "train", "report", "metrics"
CONTROL, STYLE = "control", "style"
"""Arrays beside the weights: SCAFFOLD's control variates, and a client's renderer."""
WIRE = "wire"
"""Where floats were narrowed: as what (`type`), and by RECORD/ENTRY what each of them was."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a client says of itself when it joins."""

    client: str
    modality: str
    organ: str
    n_train: int
    n_val: int
    size: int
    channels: int = 1
    format: int = SHARD.version
    """Of its shard."""
    protocol: int = PROTOCOL


LONGEST_NAME = 200
"""Of a client, a modality or an organ."""
LONGEST_REASON = 500
LONGEST_HEADER = 1024
"""Of an array; numpy's own take about a hundred bytes."""

LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("round", "kept"), (0, 99_999)),
    "epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "lr": (0, 100),
    **dict.fromkeys(("dice_weight", "weight_decay"), (0, 1)),
    "proximal_mu": (0, 1e6),
}
"""What a server may ask for: beyond any use, and still no way to keep a node busy for ever."""
LARGEST_OPTION = 4096
"""Of a model."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What the server asks of a client in one round, beside the weights."""

    round: int
    seed: int
    client: str
    epochs: int
    batch_size: int
    lr: float
    dice_weight: float
    per_pixel_focal: bool
    augment: bool
    model: str
    model_options: str
    """JSON of the model's options."""
    initial_seed: int = 0
    """Of the weights that the server never sends."""
    optimiser: str = "adam"
    weight_decay: float = 0.0
    keep: str = "best"
    """Which local epoch is reported: best or last."""
    rule: str = "plain"
    """What is reported (`Algorithm.local`)."""
    proximal_mu: float = 0.0
    precise_norm: bool = False
    share: str = "all"
    """all, or content: the style of a disentangled model stays at the client."""
    report_style: bool = False
    """Whether the client sends its renderer, for others to draw their images with."""
    wire_dtype: str = "fp32"
    """What floats travel as, both ways (`core.wire`)."""
    kept: int = 0
    """The round of the client's last report that the server took: what it kept after that round holds."""
    run: str = ""
    """The run's token, by which the client finds what it keeps between rounds."""
    clip: float = 0.0
    """The largest norm of the client's update, for privacy; 0: any."""


@dataclass(frozen=True, slots=True)
class TrainTask:
    """What a client is sent in one round."""

    request: TrainRequest
    weights: Weights
    """What is shared of the model to start from."""
    control: Weights | None = None
    """SCAFFOLD's control variate of the server."""
    style: Weights | None = None
    """Another client's renderer."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights ready to travel, in as many messages as there are clients to have them."""

    record: ArrayRecord
    dtypes: dict[str, str]
    """By entry, what `narrow` made narrower."""


def pack_profile(profile: Profile, query: Message) -> Message:
    """A client's answer to `query`."""
    return Message(RecordDict({REPORT: ConfigRecord(asdict(profile))}), reply_to=query)


def unpack_profile(reply: Message) -> Profile:
    """The profile in `reply`. Raises KeyError, TypeError or ValueError where it is none."""
    profile = Profile(**_config(reply, REPORT))
    for entry in fields(Profile):
        value = getattr(profile, entry.name)
        _check_type(entry, value)
        if isinstance(value, str) and not (0 < len(value) <= LONGEST_NAME and value.isprintable()):
            raise ValueError(f"{entry.name} is no name of at most {LONGEST_NAME} letters")
    return profile


def _check_type(entry: Field[Any], value: object) -> None:
    if type(value) is not entry.type and not (entry.type is float and type(value) is int):
        expected = getattr(entry.type, "__name__", entry.type)
        raise TypeError(f"{entry.name} is {type(value).__name__}, expected {expected}")


def error_reason(reply: Message) -> str:
    """Why a node gave no answer, in its own words: Flower's engines wrap them in the error's class.

    One line of at most LONGEST_REASON letters, whatever the node sends.
    """
    reason = str(reply.error.reason)
    wrapped = _WRAPPED.match(reason)
    return in_one_line(wrapped[1] if wrapped else reason)


def in_one_line(text: str) -> str:
    """`text` that quotes what another machine sent: one line of at most LONGEST_REASON printable letters."""
    line = " ".join(text[: 4 * LONGEST_REASON].split())
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST_REASON]


def make_query(node_id: int) -> Message:
    """Ask a node who it is."""
    return Message(RecordDict(), node_id, MessageType.QUERY)


def pack_task(
    task: TrainTask, node_id: int, kind: str = MessageType.TRAIN, weights: Packed | None = None
) -> Message:
    """Ask a node to train, or to do something else (`kind`) with that model.

    `weights`: the task's, where they were packed before.
    """
    content = RecordDict({TRAIN: ConfigRecord(asdict(task.request))})
    parts = {ARRAYS: weights or task.weights, CONTROL: task.control, STYLE: task.style}
    add_arrays(content, task.request.wire_dtype, parts)
    return Message(content, node_id, kind, group_id=str(task.request.round))


def unpack_task(message: Message) -> TrainTask:
    """What the server asks, and what to start from.

    Raises:
        KeyError, TypeError, ValueError: it is no request.
        FlamesError: floats that travel, or are to travel back, as no type that is known; numbers beyond
            LIMITS.
    """
    request = TrainRequest(**_config(message, TRAIN))
    check_wire(str(request.wire_dtype))
    _check_request(request)
    return TrainTask(
        request, unpack_weights(message), _find_arrays(message, CONTROL), _find_arrays(message, STYLE)
    )


def _check_request(request: TrainRequest) -> None:
    for entry in fields(TrainRequest):
        _check_type(entry, getattr(request, entry.name))
    for name, (low, high) in LIMITS.items():
        if not low <= (value := getattr(request, name)) <= high:
            raise FlamesError(f"the server asks for {name} {value}, expected {low:g} to {high:g}")
    options = parse_json(request.model_options)
    # Numbers only: a text could name a file of the node's.
    if not isinstance(options, dict) or not all(
        isinstance(value, int | float) and abs(value) <= LARGEST_OPTION for value in options.values()
    ):
        raise FlamesError(f"the server's model options are not numbers up to {LARGEST_OPTION}")


def _find_arrays(message: Message, name: str) -> Weights | None:
    return unpack_weights(message, name) if name in message.content else None


def pack_report(report: Report, request: Message) -> Message:
    """A client's answer to a training request, whose floats travel as those of the request.

    Raises:
        FlamesError: a value beyond the range of what they are to travel as.
    """
    asked = _config(request, TRAIN)
    identity = ConfigRecord(
        {"client": report.client, "modality": report.modality, "round": int(asked["round"])}
    )
    metrics = MetricRecord({"n_examples": report.n_examples, "n_steps": report.n_steps, **report.metrics})
    content = RecordDict({REPORT: identity, METRICS: metrics})
    wire = str(asked["wire_dtype"])
    add_arrays(content, wire, {ARRAYS: report.weights, CONTROL: report.control, STYLE: report.style})
    return Message(content, reply_to=request)


def unpack_report(reply: Message) -> Report:
    """The report in `reply`. Raises KeyError, TypeError, ValueError or FlamesError where it is none."""
    identity = _config(reply, REPORT)
    metrics = {name: _scalar(value) for name, value in _record(reply, METRICS, MetricRecord).items()}
    if unknown := metrics.keys() - REPORTED:
        raise ValueError(f"it tells of {min(unknown)!r}, which no report does")
    n_examples, n_steps = int(metrics.pop("n_examples")), int(metrics.pop("n_steps"))
    weights = unpack_weights(reply)
    return Report(
        str(identity["client"]),
        str(identity["modality"]),
        weights,
        n_examples,
        n_steps,
        metrics,
        _find_arrays(reply, CONTROL),
        _find_arrays(reply, STYLE),
        int(identity["round"]),
    )


def _scalar(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a metric is {type(value).__name__}, expected a number")
    return float(value)


def add_arrays(content: RecordDict, wire: str, parts: Mapping[str, Weights | Packed | None]) -> None:
    """Put weights into a message's `content`, by name of their record, with floats as `wire`.

    Raises:
        FlamesError: no such type, or a value beyond its range.
    """
    told: dict[str, str] = {}
    for record, weights in parts.items():
        if weights is not None:
            packed = weights if isinstance(weights, Packed) else narrow_and_pack(weights, wire)
            content[record] = packed.record
            told |= {f"{record}/{name}": dtype for name, dtype in packed.dtypes.items()}
    if told:
        content[WIRE] = ConfigRecord({"type": wire, **told})


def narrow_and_pack(weights: Weights, wire: str) -> Packed:
    """Weights as they travel, with floats as `wire`.

    Raises:
        FlamesError: no such type, or a value beyond its range.
    """
    narrowed, dtypes = narrow(weights, wire)
    return Packed(pack_weights(narrowed), dtypes)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them; 0-d counters keep their shape."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def unpack_weights(message: Message, name: str = ARRAYS) -> Weights:
    """The weights called `name` in `message`, in the sender's order and types; read-only, in its memory.

    Raises:
        TypeError, ValueError: arrays that are not in numpy's format.
        FlamesError: floats that travel as no type that is known, or other ones than said.
    """
    weights = {entry: _view(array) for entry, array in _record(message, name, ArrayRecord).items()}
    if WIRE not in message.content:
        return weights
    told = _config(message, WIRE)
    start = f"{name}/"
    dtypes = {key.removeprefix(start): str(told[key]) for key in told if key.startswith(start)}
    return widen(weights, str(told.get("type")), dtypes)


def _view(array: Array) -> NDArray[Any]:
    """What `array.numpy()` gives, not copied: a server reads as many models as there are clients.

    And no more than that: numpy's own reader takes zip archives too, allocates what a header claims before it
    looks at what is there, and knows arrays of anything.
    """
    if array.stype != "numpy.ndarray":
        raise TypeError(f"an array is {in_one_line(array.stype)!r}, expected 'numpy.ndarray'")
    if not array.data.startswith(_NUMPY_FORMAT):
        raise ValueError(
            "an array is not as numpy saves numbers (format 1.0); nothing else is read, no pickle"
        )
    start = len(_NUMPY_FORMAT)
    end = start + 2 + int.from_bytes(array.data[start : start + 2], "little")
    if end > LONGEST_HEADER:
        raise ValueError(f"an array's header claims {end} bytes, expected at most {LONGEST_HEADER}")
    shape, columns_first, dtype = _read_header(array.data[start:end])
    claimed, held = math.prod(shape) * dtype.itemsize, len(array.data) - end
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(f"an array's header claims {claimed} bytes, it has {held}")
    flat = np.frombuffer(array.data, dtype, math.prod(shape), end)
    return flat.reshape(shape, order="F" if columns_first else "C")


@lru_cache(maxsize=4096)
def _read_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns come first, dtype); slow to read, and the same from every client."""
    try:
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except Exception as error:  # numpy has Python parse it, which can fail in any way at all
        raise ValueError(f"an array's header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "biuf":
        raise TypeError(f"an array is of {in_one_line(str(dtype))}, expected numbers")
    return shape, columns_first, dtype


def message_bytes(message: Message) -> int:
    """Bytes of the arrays in `message` as they travel."""
    records = (record for record in message.content.values() if isinstance(record, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())


def _config(message: Message, name: str) -> dict[str, Any]:
    return dict(_record(message, name, ConfigRecord))


def _record(message: Message, name: str, kind: type[R]) -> R:
    """The record called `name`. Raises KeyError where there is none of that kind.

    Flower's own views by kind (`array_records`) refer to themselves and to the message, whose arrays then
    stay in memory until the garbage collector next comes by.
    """
    record = message.content.get(name)
    if not isinstance(record, kind):
        raise KeyError(name)
    return record
