"""The definition of an algorithm. Imports no numpy, so that the command line lists algorithms quickly."""

from dataclasses import dataclass
from typing import Literal

from flames_cli.errors import FlamesError

LocalUpdate = Literal["plain", "fedgs", "fedgs-unscaled", "fedprox", "scaffold"]
Groups = Literal["all", "modality", "none"]
Blend = Literal["mean", "flames", "fedbn", "fednova", "adaptive"]
Weight = Literal["examples", "steps", "uniform"]
ServerStep = Literal["replace", "adam"]
Aggregation = Literal["mean", "median", "trimmed-mean", "krum"]


@dataclass(frozen=True, slots=True)
class Privacy:
    """Central differential privacy by the Gaussian mechanism; it protects a client's complete part in a run.

    Raises:
        FlamesError: `noise` or `clip` is not above 0, or `delta` is not between 0 and 1.
    """

    noise: float
    """Noise multiplier Z: standard deviation of the noise divided by `clip`, before the division by the
    number of reports."""
    clip: float
    """Clipping norm C: largest L2 norm of a client's update."""
    delta: float
    """Probability that the bound epsilon does not hold."""

    def __post_init__(self) -> None:
        for name, value in (("noise", self.noise), ("clip", self.clip)):
            if not 0 < value < float("inf"):
                raise FlamesError(f"privacy's {name} is {value}, expected a number above 0")
        if not 0 < self.delta < 1:
            raise FlamesError(f"privacy's delta is {self.delta}, expected a number between 0 and 1")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Three independent choices (local update, model groups, blend) and the options of the server.

    Raises:
        FlamesError: the server momentum is outside [0, 1) or combined with Adam; the server learning rate is
            not above 0; the decay is outside [0, 1); a robust mean is asked for although the algorithm does
            not take one plain mean.
    """

    local_update: LocalUpdate
    """Local update rule: how a client trains and what it reports."""
    groups: Groups
    """Model groups: one model for all clients, one for each modality, or one for each client."""
    blend: Blend
    """Rule that makes models from the reports of a group."""
    weight: Weight = "examples"
    """Weight of a report in the mean."""
    server: ServerStep = "replace"
    """Server step: take the blend as the new model, or make one step of Adam towards it."""
    pooled: bool = False
    """True for the centralised upper bound: one client for each group has the data of all."""
    summary: str = ""
    server_momentum: float = 0.0
    """Momentum of the server's steps, in [0, 1); 0 takes the blend as it is (`gmf` in FedGS)."""
    server_lr: float = 0.01
    """Learning rate of the server's Adam; `replace` does not use it."""
    ema: float = 0.0
    """Decay, in [0, 1), of the moving average of the server's models that is used after the run; 0: none."""
    aggregation: Aggregation = "mean"
    """Mean that the blend `mean` takes: the one given by `weight`, or a robust one (see `robust`)."""
    bad_clients: int | None = None
    """Number of bad reports that the robust mean tolerates in each group and round; None: as many as it
    can."""
    privacy: Privacy | None = None
    """Differential privacy: clients clip their updates, and the server adds noise to their uniform mean."""

    def __post_init__(self) -> None:
        if not 0 <= self.server_momentum < 1:
            raise FlamesError(f"server momentum is {self.server_momentum}, expected 0 or more and below 1")
        if not 0 < self.server_lr < float("inf"):
            raise FlamesError(f"server learning rate is {self.server_lr}, expected a number above 0")
        if not 0 <= self.ema < 1:
            raise FlamesError(f"ema is {self.ema}, expected 0 or more and below 1; choose such as 0.9")
        if self.server_steps_by_adam and self.server_momentum:
            raise FlamesError(
                f"server momentum is {self.server_momentum} with a server that steps by Adam, "
                "which has its own momentum; leave it at 0"
            )
        if self.aggregation != "mean" and not self.takes_one_mean:
            raise FlamesError(
                f"aggregation {self.aggregation} replaces a plain mean, and this strategy takes none; "
                "choose a strategy that averages, such as fedavg, fedavg-modality or fedgs"
            )

    @property
    def clients_correct_gradients(self) -> bool:
        """True if clients and server exchange control variates, which correct every gradient (SCAFFOLD)."""
        return self.local_update == "scaffold"

    @property
    def has_client_state(self) -> bool:
        """True if clients must store something between rounds: SCAFFOLD's control variates."""
        return self.clients_correct_gradients

    @property
    def clients_share_models(self) -> bool:
        """True if several clients may train the same model."""
        return self.groups != "none"

    @property
    def server_steps_by_adam(self) -> bool:
        """True if the server makes a step of Adam towards the blend (FedAdam)."""
        return self.server == "adam"

    @property
    def alone(self) -> bool:
        """True if every model has only one client."""
        return not self.clients_share_models or self.pooled

    @property
    def takes_one_mean(self) -> bool:
        """True if the server takes one plain mean of weights for each group, and nothing else.

        Only such a mean can be replaced by a robust one, or be hidden by noise.
        """
        return self.blend == "mean" and not self.clients_correct_gradients and not self.alone

    @property
    def needs_steps(self) -> bool:
        """True if a report can be used only together with its number of steps."""
        return self.weight == "steps" or self.blend == "fednova"

    @property
    def clients_choose(self) -> bool:
        """True if each client chooses the model of each round among candidates, by its validation."""
        return self.blend == "adaptive"

    def model_group_of(self, client: str, modality: str) -> str:
        """Return the name of the model group of this client."""
        return {"all": "all", "modality": modality, "none": client}[self.groups]
