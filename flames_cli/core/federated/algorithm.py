"""What an algorithm is. Imports no numpy, so that a command line can list algorithms at no cost."""

from dataclasses import dataclass
from typing import Literal

from flames_cli.errors import FlamesError

LocalUpdate = Literal["plain", "fedgs", "fedprox", "scaffold"]
Groups = Literal["all", "modality", "none"]
Blend = Literal["mean", "flames", "fedbn", "fednova"]
Weight = Literal["examples", "steps", "uniform"]
ServerStep = Literal["replace", "adam"]
Aggregation = Literal["mean", "median", "trimmed-mean", "krum"]


@dataclass(frozen=True, slots=True)
class Privacy:
    """Central differential privacy of a client's whole part in a run, by the Gaussian mechanism.

    Raises:
        FlamesError: noise or clip not above 0, a delta not between 0 and 1.
    """

    noise: float
    """Z: the noise's standard deviation over the clip, before the division by the number of reports."""
    clip: float
    """C: the largest L2 norm of a client's update."""
    delta: float
    """The probability with which epsilon may not hold."""

    def __post_init__(self) -> None:
        for name, value in (("noise", self.noise), ("clip", self.clip)):
            if not 0 < value < float("inf"):
                raise FlamesError(f"privacy's {name} is {value}, expected a number above 0")
        if not 0 < self.delta < 1:
            raise FlamesError(f"privacy's delta is {self.delta}, expected a number between 0 and 1")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Orthogonal choices, and whether clients pool their data instead of federating.

    Raises:
        FlamesError: a server momentum outside [0, 1) or together with Adam, a server learning rate not
            above 0, a robust mean where there is none to take its place.
    """

    local_update: LocalUpdate
    """How a client trains, and so what it reports: its weights, after FedGS start minus the scaled update."""
    groups: Groups
    """Who shares a model: all clients, those of one modality, none."""
    blend: Blend
    """How reports become models."""
    weight: Weight = "examples"
    """What a report counts in the mean."""
    server: ServerStep = "replace"
    """What the server does with the blend: take it, or make one step of Adam towards it."""
    pooled: bool = False
    """One client a group holds the data of all: the centralised bound, no federation."""
    summary: str = ""
    server_momentum: float = 0.0
    """Of the server's steps in [0, 1); 0 takes the blend as it is (`gmf` in FedGS)."""
    server_lr: float = 0.01
    """Of the server's Adam; `replace` has none."""
    aggregation: Aggregation = "mean"
    """Which mean a blend `mean` takes: that of `weight`, or one that bears bad reports (`core.robust`)."""
    bad_clients: int | None = None
    """Of a round's reports in a group, that the robust mean is to bear; None: as many as it can."""
    privacy: Privacy | None = None
    """Clients clip their updates and the server blurs their mean; the blend is then `mean`, uniform."""

    def __post_init__(self) -> None:
        if not 0 <= self.server_momentum < 1:
            raise FlamesError(f"server momentum is {self.server_momentum}, expected 0 or more and below 1")
        if not 0 < self.server_lr < float("inf"):
            raise FlamesError(f"server learning rate is {self.server_lr}, expected a number above 0")
        if self.server_steps_by_adam and self.server_momentum:
            raise FlamesError(
                f"server momentum is {self.server_momentum} beside Adam, which has its own; leave it at 0"
            )
        if self.aggregation != "mean" and not self.is_one_mean:
            raise FlamesError(
                f"aggregation {self.aggregation} takes the place of a plain mean, which this strategy "
                "has not; take one that averages, such as fedavg, fedavg-modality or fedgs"
            )

    @property
    def clients_correct_gradients(self) -> bool:
        """True if clients and server exchange control variates, which correct every gradient (SCAFFOLD)."""
        return self.local_update == "scaffold"

    @property
    def has_client_state(self) -> bool:
        """True if the algorithm needs something that a client stores between rounds: its control variate."""
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
        """Whether every model has one client only."""
        return not self.clients_share_models or self.pooled

    @property
    def is_one_mean(self) -> bool:
        """Whether all that the server makes of the clients' weights is one plain mean a group: what a robust
        mean may take the place of, and noise may hide."""
        return self.blend == "mean" and not self.clients_correct_gradients and not self.alone

    @property
    def needs_steps(self) -> bool:
        """Whether a report is of use only with its number of steps."""
        return self.weight == "steps" or self.blend == "fednova"

    def model_group_of(self, client: str, modality: str) -> str:
        """The name of the server model that this client trains."""
        return {"all": "all", "modality": modality, "none": client}[self.groups]
