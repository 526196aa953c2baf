"""The definition of an algorithm. Imports no numpy, so that the command line lists algorithms quickly."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flames_cli.core.federated.buffering import Buffering
from flames_cli.errors import FlamesError
from flames_cli.plugins import RAISED, describe_error

if TYPE_CHECKING:
    from flames_cli.core.federated.blend import Blend

LOCAL_UPDATES = ("plain", "fedgs", "fedgs-unscaled", "fedprox", "scaffold")
"""Local update rules by name; a plug-in may give a class."""
GROUPS = ("all", "modality", "none")
"""Model groups by name; a plug-in may give a function."""
BLENDS = ("mean", "flames", "fedbn", "fednova", "adaptive")
"""Blends by name; a plug-in may give a class."""
ALL = "all"
"""Model group of all clients."""
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
"""Pattern of the name of a plug-in's model group, which becomes part of the names of files."""
GroupOf = Callable[[str, str], str]
"""group_of(client, modality) returns the name of a client's model group."""
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

    Each choice is a name of this package, or a part of a plug-in.

    Raises:
        FlamesError: the server momentum is outside [0, 1) or combined with Adam; the server learning rate is
            not above 0; the decay is outside [0, 1); a robust mean is asked for although the algorithm does
            not take one plain mean; pooled clients have model groups of a plug-in.
    """

    local_update: str | type[Any]
    """Local update rule, one of LOCAL_UPDATES or a subclass of `LocalUpdate`: how a client trains and what it
    reports."""
    groups: str | GroupOf
    """Model groups, one of GROUPS (one model for all clients, for each modality, or for each client), or a
    function that always returns the same group for the same client and modality."""
    blend: "str | type[Blend]"
    """Rule that makes models from the reports of a group: one of BLENDS, or a class."""
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
    buffering: Buffering | None = None
    """Buffer of an asynchronous federation; None: rounds are in step."""
    plugin: str = ""
    """Strategy and package of the plug-in that gives this algorithm, for messages; empty: built in."""

    def __post_init__(self) -> None:
        if self.pooled and callable(self.groups):
            raise FlamesError(
                f"{self.label} pools the clients of model groups that a function gives, expected groups by "
                "name; write groups='modality' or pooled=False"
            )
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
    def label(self) -> str:
        """Strategy and package, for messages about a part of a plug-in."""
        return self.plugin or "this strategy"

    @property
    def clients_correct_gradients(self) -> bool:
        """True if clients and server exchange control variates, which correct every gradient (SCAFFOLD)."""
        return self.local_update == "scaffold"

    @property
    def has_client_state(self) -> bool:
        """True if clients must store something between rounds: SCAFFOLD's control variates, or the state of
        a plug-in's rule."""
        return self.clients_correct_gradients or bool(getattr(self.local_update, "keeps_state", False))

    @property
    def clients_share_models(self) -> bool:
        """True if several clients may train the same model."""
        return self.groups != "none"

    @property
    def has_one_model(self) -> bool:
        """True if all clients train the same model."""
        return self.groups == ALL

    @property
    def server_steps_by_adam(self) -> bool:
        """True if the server makes a step of Adam towards the blend (FedAdam)."""
        return self.server == "adam"

    @property
    def alone(self) -> bool:
        """True if every model has only one client."""
        return not self.clients_share_models or self.pooled

    @property
    def averages(self) -> bool:
        """True if models are plain means of several clients' reports, which the server may step towards with
        momentum."""
        return self.blend == "mean" and not self.alone

    @property
    def takes_one_mean(self) -> bool:
        """True if the server takes one plain mean of weights for each group, and nothing else.

        Only such a mean can be replaced by a robust one, or be hidden by noise.
        """
        return self.averages and not self.clients_correct_gradients

    @property
    def needs_steps(self) -> bool:
        """True if a report can be used only together with its number of steps."""
        by_blend = self.blend == "fednova" or bool(getattr(self.blend, "needs_steps", False))
        return self.weight == "steps" or by_blend

    @property
    def blends_for_each(self) -> bool:
        """True if every client gets a blend of its own of all reports of its model (FLAMES)."""
        return self.blend in ("flames", "adaptive")

    @property
    def clients_choose(self) -> bool:
        """True if each client chooses the model of each round among candidates, by its validation."""
        return self.blend == "adaptive"

    def model_group_of(self, client: str, modality: str) -> str:
        """Return the name of the model group of this client.

        Raises:
            FlamesError: a plug-in's function fails, or returns no name of a model group.
        """
        if callable(self.groups):
            return self._group_of_plugin(self.groups, client, modality)
        return {"all": ALL, "modality": modality, "none": client}[self.groups]

    def _group_of_plugin(self, groups: GroupOf, client: str, modality: str) -> str:
        """Return the name of a plug-in's model group; `all` has another meaning for evaluations."""
        try:
            name, again = groups(client, modality), groups(client, modality)
        except RAISED as error:
            raise FlamesError(
                f"{self.label}: its groups fail for client '{client}' of modality {modality} "
                f"({describe_error(error)}); correct the plug-in"
            ) from error
        if type(name) is not str or name == ALL or not (name in (client, modality) or _GROUP.fullmatch(name)):
            raise FlamesError(
                f"{self.label}: its groups give {name!r:.80} for client '{client}' of modality {modality}, "
                f"expected the client, the modality, or at most 64 letters, digits and ' ._+-', not '{ALL}'; "
                "correct the plug-in"
            )
        if name != again:
            raise self.group_changed(client, name, again)
        return name

    def group_changed(self, client: str, before: str, now: object) -> FlamesError:
        """Return the error of a plug-in's groups that are not always the same."""
        return FlamesError(
            f"{self.label}: its groups give '{before}' and then {now!r:.80} for client '{client}', expected "
            "always the same group; correct the plug-in (Python's hash of a text differs in each process)"
        )
