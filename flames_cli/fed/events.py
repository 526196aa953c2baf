"""Events of a federation, for the code that shows or logs its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FederationStarted:
    """The first round begins."""

    clients: tuple[tuple[str, str, int], ...]
    """Name, modality and number of training images of each client that has joined."""
    first_round: int
    """First round of this call, from 1; above 1 if the run is resumed."""
    rounds: int
    """Number of the last round."""
    by_modality: bool = False
    """True if each modality does its own rounds."""


@dataclass(frozen=True, slots=True)
class ClientJoined:
    """A client has joined, before the first round or later."""

    client: str
    modality: str
    organ: str
    n_train: int


@dataclass(frozen=True, slots=True)
class NodeRejected:
    """A node may not join, for `reason`."""

    node: str
    """`client NAME` if the node has sent a valid profile, else `node NAME` or `node NUMBER`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The server waits before `round`, at most `seconds`, for what `missing` says."""

    round: int
    missing: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ClientAsked:
    """The server has sent a client its model to train."""

    client: str
    round: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """A client has made a training step."""

    client: str
    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """A client's report has arrived and can be read; it may still be rejected."""

    client: str
    round: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class ReportRejected:
    """A client's report was rejected, or the client sent none, for `reason`."""

    client: str
    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoundDone:
    """A round is finished and saved; `record` is its line in rounds.jsonl."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModalityDone:
    """A modality that does its own rounds has finished one, which is saved.

    `RoundDone` follows as soon as all modalities have done this round.
    """

    modality: str
    record: dict[str, Any]
    """The modality's line in its own rounds.jsonl."""


@dataclass(frozen=True, slots=True)
class FinalModelsExamined:
    """The clients have validated the final models; `record` is the content of final-models.json."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Noted:
    """The user should know something about the run, for example that a checkpoint is damaged."""

    note: str


@dataclass(frozen=True, slots=True)
class Estimated:
    """Estimate of the time that is left, in seconds."""

    seconds_left: float
    at_least: bool = False
    """True before the first complete round: the estimate does not include validation."""


@dataclass(frozen=True, slots=True)
class LineLogged:
    """A line of the run's log, with its time."""

    line: str


Event = (
    FederationStarted
    | ClientJoined
    | NodeRejected
    | Waiting
    | ClientAsked
    | StepDone
    | ReportReceived
    | ReportRejected
    | RoundDone
    | ModalityDone
    | FinalModelsExamined
    | Noted
    | LineLogged
    | Estimated
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore the event."""
