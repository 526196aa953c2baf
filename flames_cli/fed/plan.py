"""A federation decided before it starts, and what each client is sent in each of its rounds."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import Entries, LastReport, State
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.fed.messages import Profile, TrainRequest, TrainTask


@dataclass(frozen=True, slots=True)
class Plan:
    """A federation, decided before it starts."""

    algorithm: Algorithm
    rounds: int
    seed: int
    model: str
    model_options: dict[str, Any]
    initial: Weights
    """What every model starts from."""
    size: int
    """Of the images."""
    channels: int = 1
    """Of the images; the model's options carry them as in_channels."""
    epochs: int = 1
    batch_size: int = 64
    lr: float = 1e-4
    lr_by_modality: dict[str, float] = field(default_factory=dict)
    dice_weight: float = 0.3
    per_pixel_focal: bool = False
    augment: bool = True
    optimiser: str = "adam"
    weight_decay: float = 0.0
    keep: str = "best"
    """Which local epoch is reported: best or last."""
    proximal_mu: float = 0.0
    precise_norm: bool = False
    share: str = "all"
    style_from: int | None = None
    """The first round in which clients also train on images in each other's styles."""
    wire_dtype: str = "fp32"
    """What floats travel as, both ways."""
    run: str = ""
    """The run's token of 16 hex digits, by which clients find what they keep between rounds."""
    entries: Entries | None = None
    """Which entries of the model are what; None: as `Entries.of` tells from the weights."""
    max_update_norm: float = math.inf
    """How many times as far as the median client a client's report may move."""

    @property
    def known_entries(self) -> Entries:
        """Which entries of the model are what."""
        return self.entries or Entries.of(self.initial)

    def request(
        self, round_: int, profile: Profile, report_style: bool = False, last_accepted_round: int = 0
    ) -> TrainRequest:
        """What `profile`'s client is asked in `round_`, and whether it is to lend its renderer.

        `last_accepted_round` is the round of the client's last report that the server accepted; client state
        of later rounds is not used.
        """
        return TrainRequest(
            round=round_,
            seed=self.seed,
            client=profile.client,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr_of(profile),
            dice_weight=self.dice_weight,
            per_pixel_focal=self.per_pixel_focal,
            augment=self.augment,
            model=self.model,
            model_options=json.dumps(self.model_options, sort_keys=True),
            initial_seed=initial_seed(self.seed),
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            keep=self.keep,
            rule=self.algorithm.local_update,
            proximal_mu=self.proximal_mu,
            precise_norm=self.precise_norm,
            share=self.share,
            report_style=report_style,
            last_accepted_round=last_accepted_round,
            wire_dtype=self.wire_dtype,
            run=self.run,
            clip=self.algorithm.privacy.clip if self.algorithm.privacy else 0.0,
        )

    def lr_of(self, profile: Profile) -> float:
        """The learning rate of `profile`'s client."""
        return self.lr_by_modality.get(profile.modality, self.lr)

    def most_steps(self, profile: Profile) -> int:
        """The steps that `profile`'s client makes in a round at the most."""
        return self.epochs * math.ceil(profile.n_train / self.batch_size)

    def task(self, state: State, round_: int, profile: Profile, profiles: Sequence[Profile]) -> TrainTask:
        """What `profile`'s client is sent in `round_`."""
        group = self.model_group_of(profile)
        last = state.clients.get(profile.client)
        others: list[str] = []
        if self.style_from is not None and round_ >= self.style_from - 1:
            others = [one.client for one in profiles if one != profile and self.model_group_of(one) == group]
        return TrainTask(
            self.request(round_, profile, bool(others), last.round if last else 0),
            self.known_entries.shared_of(state.model_for(profile.client, group)),
            self._control(state, group),
            self._style(state, round_, profile.client, others),
        )

    def model_group_of(self, profile: Profile) -> str:
        """The name of the server model that `profile`'s client trains."""
        return self.algorithm.model_group_of(profile.client, profile.modality)

    def _control(self, state: State, group: str) -> Weights | None:
        if not self.algorithm.clients_correct_gradients:
            return None
        parameters = self.known_entries.parameters_of(state.server[group])
        zeros = {name: np.zeros_like(array) for name, array in parameters.items()}
        return state.optimiser_state.get(group, {}).get("control", zeros)

    def _style(self, state: State, round_: int, client: str, others: Sequence[str]) -> Weights | None:
        """The renderer of one of the `others` in its group, drawn by seed; None where there is none."""
        lenders = [other for other in others if other in state.styles]
        if self.style_from is None or round_ < self.style_from or not lenders:
            return None
        drawn = derive_rng(self.seed, "style", round_, client).integers(len(lenders))
        return state.styles[lenders[int(drawn)]]


def initial_seed(seed: int) -> int:
    """Of the weights that every model of a run with `seed` starts from."""
    return derive_seed(seed, "initial weights")


def with_model_groups(state: State | None, plan: Plan, profiles: Iterable[Profile]) -> State:
    """`state` (None: before the first round) with all that have joined, and a model for every group.

    All models start alike, whenever the first client of their group joins.
    """
    started = state or State(0, {})
    of_client = {profile.client: plan.model_group_of(profile) for profile in profiles}
    groups = dict.fromkeys(of_client.values())
    new = {
        group: {name: array.copy() for name, array in plan.initial.items()}
        for group in groups
        if group not in started.server
    }
    clients = {client: LastReport(group) for client, group in of_client.items()} | started.clients
    return replace(started, server={**started.server, **new}, clients=clients)
