"""What travels: profiles, models and reports, as Flower messages and back."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.aggregation import Report

PROTOCOL = 2
"""Of these messages; a node that speaks another one is refused."""

ARRAYS, TRAIN, REPORT, METRICS = "arrays", "train", "report", "metrics"


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


def pack_profile(profile: Profile, query: Message) -> Message:
    """A client's answer to `query`."""
    return Message(RecordDict({REPORT: ConfigRecord(asdict(profile))}), reply_to=query)


def unpack_profile(reply: Message) -> Profile:
    """The profile in `reply`. Raises KeyError or TypeError where it is none."""
    return Profile(**_config(reply, REPORT))


def make_query(node_id: int) -> Message:
    """Ask a node who it is."""
    return Message(RecordDict(), node_id, MessageType.QUERY)


def pack_request(request: TrainRequest, weights: Weights, node_id: int) -> Message:
    """Ask a node to train from `weights`."""
    content = RecordDict({ARRAYS: pack_weights(weights), TRAIN: ConfigRecord(asdict(request))})
    return Message(content, node_id, MessageType.TRAIN, group_id=str(request.round))


def unpack_request(message: Message) -> tuple[TrainRequest, Weights]:
    """The request and the weights to start from."""
    return TrainRequest(**_config(message, TRAIN)), unpack_weights(message)


def pack_report(report: Report, request: Message) -> Message:
    """A client's answer to a training request."""
    identity = ConfigRecord({"client": report.client, "modality": report.modality})
    metrics = MetricRecord({"n_examples": report.n_examples, "n_steps": report.n_steps, **report.metrics})
    content = RecordDict({ARRAYS: pack_weights(report.weights), REPORT: identity, METRICS: metrics})
    return Message(content, reply_to=request)


def unpack_report(reply: Message) -> Report:
    """The report in `reply`. Raises KeyError, TypeError or ValueError where it is none."""
    identity = _config(reply, REPORT)
    metrics = {name: _scalar(value) for name, value in reply.content.metric_records[METRICS].items()}
    n_examples, n_steps = int(metrics.pop("n_examples")), int(metrics.pop("n_steps"))
    weights = unpack_weights(reply)
    return Report(str(identity["client"]), str(identity["modality"]), weights, n_examples, n_steps, metrics)


def _scalar(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a metric is {type(value).__name__}, expected a number")
    return float(value)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them; 0-d counters keep their shape."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def unpack_weights(message: Message) -> Weights:
    """The weights in `message`, in the sender's order."""
    return {name: array.numpy() for name, array in message.content.array_records[ARRAYS].items()}


def weights_bytes(weights: Weights) -> int:
    """Payload of a model in transit, without framing."""
    return sum(array.nbytes for array in weights.values())


def _config(message: Message, name: str) -> dict[str, Any]:
    return dict(message.content.config_records[name])
