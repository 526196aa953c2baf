"""What happens in a federation, for whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FederationStarted:
    """The clients have joined: their names with their modality and number of training images."""

    clients: tuple[tuple[str, str, int], ...]
    first_round: int
    rounds: int


@dataclass(frozen=True, slots=True)
class ClientJoined:
    """A client has joined, before the first round or later."""

    client: str
    modality: str
    organ: str
    n_train: int


@dataclass(frozen=True, slots=True)
class NodeRejected:
    """A node (a client, where it could tell its name) cannot join for `reason`."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Before `round`, for what is missing; at most for so long."""

    round: int
    missing: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ClientAsked:
    """A client was sent its model to train."""

    client: str
    round: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """A client made a training step."""

    client: str
    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class ClientDone:
    """A client reported, or was refused for `reason`."""

    client: str
    round: int
    metrics: dict[str, float]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundDone:
    """A round is over and saved; `record` is its line in rounds.jsonl."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a person should know of the run's files, such as that a checkpoint is damaged."""

    note: str


@dataclass(frozen=True, slots=True)
class Estimated:
    """What is left takes about so long; at least, while no round with its validation is over."""

    seconds_left: float
    at_least: bool = False


Event = (
    FederationStarted
    | ClientJoined
    | NodeRejected
    | Waiting
    | ClientAsked
    | StepDone
    | ClientDone
    | RoundDone
    | Noted
    | Estimated
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Nobody watches."""
