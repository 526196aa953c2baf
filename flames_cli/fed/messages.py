"""What travels: profiles, models and reports, as Flower messages and back."""

from dataclasses import Field, asdict, dataclass, fields
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.wire import check_wire
from flames_cli.errors import FlamesError
from flames_cli.fed.records import Packed, add_arrays, config_of, record_of, unpack_weights
from flames_cli.store.files.parse import parse_json
from flames_cli.store.schema import SHARD

PROTOCOL = 6
"""Of these messages; a node that speaks another one is refused."""

REPORTED = {
    *("n_examples", "n_steps", "train_loss", "best_epoch"),
    *("received_val_loss", "received_val_dice", "trained_val_loss", "trained_val_dice"),
}
"""The numbers that a report may tell beside its weights."""

ARRAYS, TRAIN, REPORT, METRICS = "arrays", "train", "report", "metrics"
CONTROL, STYLE = "control", "style"
"""Arrays beside the weights: SCAFFOLD's control variates, and a client's renderer."""


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

LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("round", "last_accepted_round"), (0, 99_999)),
    "epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "lr": (0, 100),
    **dict.fromkeys(("dice_weight", "weight_decay"), (0, 1)),
    "proximal_mu": (0, 1e6),
    "clip": (0, 1e9),
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
    """What is reported (`Algorithm.local_update`)."""
    proximal_mu: float = 0.0
    precise_norm: bool = False
    share: str = "all"
    """all, or content: the style of a disentangled model stays at the client."""
    report_style: bool = False
    """Whether the client sends its renderer, for others to draw their images with."""
    wire_dtype: str = "fp32"
    """What floats travel as, both ways (`core.wire`)."""
    last_accepted_round: int = 0
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


def pack_profile(profile: Profile, query: Message) -> Message:
    """A client's answer to `query`."""
    return Message(RecordDict({REPORT: ConfigRecord(asdict(profile))}), reply_to=query)


def unpack_profile(reply: Message) -> Profile:
    """The profile in `reply`. Raises KeyError, TypeError or ValueError where it is none."""
    profile = Profile(**config_of(reply, REPORT))
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
    request = TrainRequest(**config_of(message, TRAIN))
    check_wire(str(request.wire_dtype))
    _check_request(request)
    return TrainTask(
        request, unpack_weights(message, ARRAYS), _find_arrays(message, CONTROL), _find_arrays(message, STYLE)
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
    asked = config_of(request, TRAIN)
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
    identity = config_of(reply, REPORT)
    metrics = {name: _scalar(value) for name, value in record_of(reply, METRICS, MetricRecord).items()}
    if unknown := metrics.keys() - REPORTED:
        raise ValueError(f"it tells of {min(unknown)!r}, which no report does")
    n_examples, n_steps = int(metrics.pop("n_examples")), int(metrics.pop("n_steps"))
    weights = unpack_weights(reply, ARRAYS)
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
