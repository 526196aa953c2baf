"""The progress of an asynchronous federation: what it needs, besides its models, to continue."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flames_cli.arrays import Weights
from flames_cli.core.federated.shelf import Load


@dataclass(frozen=True, slots=True)
class NewestReport:
    """The newest report of a client, which counts in FLAMES' sums until a newer one replaces it."""

    n_examples: int
    began: int
    """Version of the model with which the training began."""
    load: Load
    """Function that returns the reported weights."""


@dataclass(frozen=True, slots=True)
class Training:
    """A training that a client has begun, and whose report has not arrived."""

    number: int
    """Number of this training among those of the client, from 1."""
    began: int
    """Version of the model with which it began."""
    start: str
    """Name of the weights with which it began, in `Progress.starts`."""
    ends: float = 0.0
    """Virtual time at which it ends, in seconds since the start of the run; not used with real nodes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """All that an asynchronous federation needs, besides its models, to continue after a version."""

    seconds: float = 0.0
    """Time at which the version was made, since the start of the run: virtual in a simulation."""
    trainings: Mapping[str, int] = field(default_factory=dict)
    """Number of trainings that each client has begun."""
    on_the_way: Mapping[str, Training] = field(default_factory=dict)
    """Training of each client that has not reported; empty with real nodes, which are asked again."""
    starts: Mapping[str, Weights] = field(default_factory=dict)
    """Weights with which these trainings began, by name."""
    newest: Mapping[str, NewestReport] = field(default_factory=dict)
    """Newest accepted report of each client (FLAMES only)."""
