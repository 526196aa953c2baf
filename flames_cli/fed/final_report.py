"""A client's report on the final models: BatchNorm's statistics on its images, and a validation."""

from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.federated.choice import Choice
from flames_cli.fed.choice_records import CHOICE, pack_choice, unpack_choice
from flames_cli.fed.messages import METRICS, REPORT, TRAIN
from flames_cli.fed.numbers import read_integer
from flames_cli.fed.records import add_arrays, config_of, record_of, unpack_weights

ACTION = "final"
"""Action of the ClientApp that answers; the message's type is `evaluate.final`."""
MESSAGE_TYPE = f"evaluate.{ACTION}"

OWN, SERVER = "own", "server"
"""Records with statistics: of the client's own model, and of its group's server model."""

NUMBERS = ("n_examples", "val_loss", "val_dice", "val_dice_small", "n_val", "n_val_patients", "n_val_small")
"""Numbers of a report; without validation patients those of the validation are missing."""


@dataclass(frozen=True, slots=True)
class FinalReport:
    """Result of a client's pass over its own training and validation images with the final models."""

    client: str
    modality: str
    round: int
    n_examples: int
    """Number of training images on which the statistics were estimated."""
    own: Weights = field(default_factory=dict)
    """Statistics of the client's own model; empty if they stay at the client."""
    server: Weights = field(default_factory=dict)
    """Statistics of the server's model of the client's group; empty if it is the client's own model."""
    validation: dict[str, float] = field(default_factory=dict)
    """Validation of the client's own model with its statistics, as `Validation.numbers` returns it."""
    choice: Choice | None = None
    """The client's choice of its model, if it had one."""


def pack_final(report: FinalReport, request: Message) -> Message:
    """Return a client's reply; statistics travel in full precision."""
    identity = ConfigRecord(
        {
            "client": report.client,
            "modality": report.modality,
            "round": int(config_of(request, TRAIN)["round"]),
        }
    )
    numbers = MetricRecord({"n_examples": report.n_examples, **report.validation})
    content = RecordDict({REPORT: identity, METRICS: numbers})
    if report.choice:
        content[CHOICE] = pack_choice(report.choice)
    add_arrays(content, "fp32", {OWN: report.own, SERVER: report.server})
    return Message(content, reply_to=request)


def unpack_final(reply: Message) -> FinalReport:
    """Return the report in `reply`.

    Raises:
        KeyError, TypeError, ValueError: the reply does not contain a valid report.
    """
    identity = config_of(reply, REPORT)
    numbers = dict(record_of(reply, METRICS, MetricRecord))
    for name, value in numbers.items():
        if name not in NUMBERS or isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"it contains {name!r}, which is not a number of a report on final models")
    return FinalReport(
        client=str(identity["client"]),
        modality=str(identity["modality"]),
        round=read_integer(identity["round"], "round"),
        n_examples=int(numbers.pop("n_examples")),  # type: ignore[arg-type]
        own=unpack_weights(reply, OWN),
        server=unpack_weights(reply, SERVER),
        validation={name: float(value) for name, value in numbers.items()},  # type: ignore[arg-type]
        choice=unpack_choice(reply),
    )
