"""What a client is asked to train in a round, and what comes of it."""

from dataclasses import dataclass
from typing import Literal

from flames_cli.arrays import Weights
from flames_cli.learn.predict import Validation


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a client trains in one round; the server sends it."""

    seed: int
    round: int
    client: str
    epochs: int = 1
    batch_size: int = 64
    lr: float = 1e-4
    dice_weight: float = 0.3
    per_pixel_focal: bool = False
    augment: bool = True
    optimiser: str = "adam"
    """Of OPTIMISERS."""
    weight_decay: float = 0.0
    keep: Literal["best", "last"] = "best"
    """Which epoch is reported: the best one by the validation patients, or the last."""
    rule: str = "plain"
    """What is reported (see `make_local_update`)."""
    proximal_mu: float = 0.0
    """Of the rule fedprox."""
    precise_norm: bool = False
    """Whether BatchNorm's statistics are estimated anew where weights are reported that were not trained."""

    @property
    def scope(self) -> tuple[str | int, ...]:
        """Of everything that is random in this client's round."""
        return (self.client, self.round)


@dataclass(frozen=True, slots=True)
class Controls:
    """SCAFFOLD's control variates as a round starts, by parameter."""

    server: Weights
    client: Weights


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What is reported of the epoch that is kept, and how training went."""

    weights: Weights
    n_examples: int
    n_steps: int
    """That led to these weights."""
    best_epoch: int
    """The one that is kept, from 1."""
    train_loss: float
    """Mean over the cases of that epoch."""
    received: Validation | None
    """Of the model as it came, before training; None without validation patients."""
    trained: Validation | None
    """Of the epoch that is kept."""
    control_change: Weights | None = None
    """Of the client's control variate, by parameter; with the rule scaffold only."""
