"""What travels: profiles, models and reports, as Flower messages and back."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.reports import Report

PROTOCOL = 3
"""Of these messages; a node that speaks another one is refused."""

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
    protocol: int = PROTOCOL


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
    """The profile in `reply`. Raises KeyError or TypeError where it is none."""
    return Profile(**_config(reply, REPORT))


def make_query(node_id: int) -> Message:
    """Ask a node who it is."""
    return Message(RecordDict(), node_id, MessageType.QUERY)


def pack_task(task: TrainTask, node_id: int) -> Message:
    """Ask a node to train."""
    content = RecordDict({ARRAYS: pack_weights(task.weights), TRAIN: ConfigRecord(asdict(task.request))})
    _add_arrays(content, task.control, task.style)
    return Message(content, node_id, MessageType.TRAIN, group_id=str(task.request.round))


def unpack_task(message: Message) -> TrainTask:
    """What the server asks, and what to start from."""
    request = TrainRequest(**_config(message, TRAIN))
    return TrainTask(
        request, unpack_weights(message), _find_arrays(message, CONTROL), _find_arrays(message, STYLE)
    )


def _add_arrays(content: RecordDict, control: Weights | None, style: Weights | None) -> None:
    for name, weights in ((CONTROL, control), (STYLE, style)):
        if weights is not None:
            content[name] = pack_weights(weights)


def _find_arrays(message: Message, name: str) -> Weights | None:
    return unpack_weights(message, name) if name in message.content.array_records else None


def pack_report(report: Report, request: Message) -> Message:
    """A client's answer to a training request."""
    identity = ConfigRecord({"client": report.client, "modality": report.modality})
    metrics = MetricRecord({"n_examples": report.n_examples, "n_steps": report.n_steps, **report.metrics})
    content = RecordDict({ARRAYS: pack_weights(report.weights), REPORT: identity, METRICS: metrics})
    _add_arrays(content, report.control, report.style)
    return Message(content, reply_to=request)


def unpack_report(reply: Message) -> Report:
    """The report in `reply`. Raises KeyError, TypeError or ValueError where it is none."""
    identity = _config(reply, REPORT)
    metrics = {name: _scalar(value) for name, value in reply.content.metric_records[METRICS].items()}
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
    )


def _scalar(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a metric is {type(value).__name__}, expected a number")
    return float(value)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them; 0-d counters keep their shape."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def unpack_weights(message: Message, name: str = ARRAYS) -> Weights:
    """The weights called `name` in `message`, in the sender's order."""
    return arrays_of(message.content.array_records[name])


def arrays_of(record: ArrayRecord) -> Weights:
    """What `pack_weights` packed."""
    return {name: array.numpy() for name, array in record.items()}


def weights_bytes(*parts: Weights | None) -> int:
    """Payload in transit, without framing."""
    return sum(array.nbytes for weights in parts if weights is not None for array in weights.values())


def _config(message: Message, name: str) -> dict[str, Any]:
    return dict(message.content.config_records[name])
