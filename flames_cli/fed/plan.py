"""The plan of a federation, decided before it starts, and the task of each client in each round."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.core.federated.lr_schedule import LrSchedule
from flames_cli.core.federated.reports import Entries, LastReport, State
from flames_cli.core.federated.secure_blend import weighing_of
from flames_cli.core.federated.shelf import ClientModels
from flames_cli.core.federated.topology import Topology
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.fed.messages import Profile, SumNote, TrainRequest, TrainTask
from flames_cli.fed.plugin_rules import rule_text
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.learn.train_options import TrainOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions about a federation, made before it starts."""

    algorithm: Algorithm
    rounds: int
    seed: int
    model: str
    model_options: dict[str, Any]
    initial: Weights
    """Initial weights of every model that is not in `starts`."""
    size: int
    """Height and width of the images in pixels."""
    channels: int = 1
    """Number of channels of the images; the model's options contain it as in_channels."""
    training: TrainOptions = field(default_factory=TrainOptions)
    """Options of local training."""
    own_training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Options of local training that modalities or clients have of their own, by option and name."""
    lr_schedule: LrSchedule = field(default_factory=LrSchedule)
    """Learning rate by round."""
    share: str = "all"
    """Entries that clients share (see `TrainRequest.share`)."""
    style_from: int | None = None
    """First round in which clients also train on images in the styles of other clients; None: never."""
    wire_dtype: str = "fp32"
    """Type in which floats travel, in both directions."""
    run: str = ""
    """Token of the run, 16 hex digits, which names the clients' folders of client state."""
    entries: Entries | None = None
    """Roles of the model's entries; None: as `Entries.of` returns them."""
    fraction: float = 1.0
    """Fraction of the clients of each modality that a round asks (see `draw_clients`)."""
    run_name: str = ""
    """Name of the run."""
    strategy: str = ""
    """Name of the algorithm."""
    smallest_batch: int = 1
    """Smallest number of images that the model can train on in one step (see `smallest_batch`)."""
    max_update_norm: float = math.inf
    """Largest distance of a report from its model, in units of the median client's (see `NormLimit`)."""
    starts: Mapping[str, Weights] = field(default_factory=dict)
    """Initial weights of models that have their own, by modality, or by client (see `client_model`)."""
    secure: bool = False
    """True if the server learns only sums of the clients' reports (secure aggregation)."""
    draws_others: bool = False
    """True if the other models start from weights that are drawn by seed, in spite of `starts`."""
    topology: Topology | None = None
    """Connections of a swarm's peers; None: a server blends the reports."""

    @property
    def known_entries(self) -> Entries:
        """Roles of the model's entries."""
        return self.entries or Entries.of(self.initial)

    def request(
        self,
        round_: int,
        profile: Profile,
        report_style: bool = False,
        last_accepted_round: int = 0,
        releases: int = 0,
    ) -> TrainRequest:
        """Return the request to `profile`'s client in `round_`.

        Args:
            round_: number of the round, from 1.
            profile: profile of the client.
            report_style: True if the client also reports its renderer.
            last_accepted_round: round of the client's last accepted report; 0: there is none. Client state
                of later rounds is not used.
            releases: number of releases with noise, of which the model that is sent is the last.
        """
        privacy = self.algorithm.privacy
        spent = privacy_spent(privacy, releases) if privacy and releases else {}
        return TrainRequest(
            round=round_,
            seed=self.seed,
            client=profile.client,
            training=self.training_of(profile.client, profile.modality, round_),
            model=self.model,
            model_options=json.dumps(self.model_options, sort_keys=True),
            initial_seed=initial_seed(self.seed),
            rule=rule_text(self.algorithm, self.strategy),
            share=self.share,
            report_style=report_style,
            last_accepted_round=last_accepted_round,
            wire_dtype=self.wire_dtype,
            run=self.run,
            run_name=self.run_name,
            strategy=self.strategy,
            rounds=self.rounds,
            epsilon=spent.get("epsilon", 0.0),
            delta=spent.get("delta", 0.0),
            clip=privacy.clip if privacy else 0.0,
            secure=weighing_of(self.algorithm) if self.secure else "",
        )

    def training_of(self, client: str, modality: str, round_: int) -> TrainOptions:
        """Return the options of a client's training in `round_`.

        A value for the client itself takes precedence over that of its modality.
        """
        own: dict[str, Any] = {}
        for name in (modality, client):
            own |= {option: values[name] for option, values in self.own_training.items() if name in values}
        options = replace(self.training, **own)
        return replace(options, lr=options.lr * self.lr_schedule.factor(round_, self.rounds))

    def lr_of(self, profile: Profile, round_: int) -> float:
        """Return the learning rate of `profile`'s client in `round_`."""
        return self.training_of(profile.client, profile.modality, round_).lr

    def steps_a_round(self, client: str, modality: str, n_train: int) -> int:
        """Return the largest number of steps that a client with `n_train` images makes in a round."""
        options = self.training_of(client, modality, 1)
        return options.local_epochs * math.ceil(n_train / options.batch_size)

    def task(self, state: State, round_: int, profile: Profile, profiles: Sequence[Profile]) -> TrainTask:
        """Return the task of `profile`'s client in `round_`; `profiles` are all clients that have joined."""
        group = self.model_group_of(profile)
        last = state.clients.get(profile.client)
        others: list[str] = []
        if self.style_from is not None and round_ >= self.style_from - 1:
            others = [one.client for one in profiles if one != profile and self.model_group_of(one) == group]
        return TrainTask(
            request=self.request(
                round_,
                profile,
                report_style=bool(others),
                last_accepted_round=last.round if last else 0,
                releases=state.releases,
            ),
            weights=self._sent(state, profile, state.model_for(profile.client, group)),
            control=self._control(state, group),
            style=self._style(state, round_, profile.client, others),
            sum=self._sum_note(state, profile),
        )

    def _sent(self, state: State, profile: Profile, model: Weights) -> Weights:
        """Return the weights that travel to a client: the words of a secure sum, if it makes its own model
        from one, else the shared entries of `model`."""
        found = state.sum_of(profile.client)
        return found.words if found else self.known_entries.shared_of(model)

    def _sum_note(self, state: State, profile: Profile) -> SumNote | None:
        found = state.sum_of(profile.client)
        return SumNote.of(found) if found else None

    def final_task(self, state: State, profile: Profile) -> TrainTask:
        """Return the task of `profile`'s client after the last round: its own model and its group's model.

        The group's model is sent only if the client estimates its statistics: a client with a model of its
        own never receives it otherwise, and could compute more about the other clients from both.
        """
        group, last = self.model_group_of(profile), state.clients.get(profile.client)
        request = self.request(
            round_=state.round, profile=profile, last_accepted_round=last.round if last else 0
        )
        entries = self.known_entries
        return TrainTask(
            request=replace(request, report_statistics=self.reports_statistics),
            weights=self._sent(state, profile, state.used_model_for(profile.client, group)),
            sum=self._sum_note(state, profile),
            server=(
                entries.shared_of(state.used_server_model(group))
                if self.reports_statistics and profile.client in state.personal
                else None
            ),
        )

    def evaluation_task(self, state: State, profile: Profile) -> TrainTask:
        """Return the task to evaluate the final model of `profile`'s client, with its own statistics."""
        task = self.task(state, state.round + 1, profile, [profile])
        final = state.final_model_for(profile.client, self.model_group_of(profile), profile.modality)
        return replace(task, weights=self._sent(state, profile, final))

    def kept_task(self, state: State, profile: Profile) -> TrainTask:
        """Return the task to keep the final model of `profile`'s client, with its own statistics.

        It travels in full precision: the client's folder has the same bits as the server's checkpoint.
        """
        last = state.clients.get(profile.client)
        request = self.request(
            round_=state.round,
            profile=profile,
            last_accepted_round=last.round if last else 0,
            releases=state.releases,
        )
        final = state.final_model_for(profile.client, self.model_group_of(profile), profile.modality)
        return TrainTask(
            request=replace(request, wire_dtype="fp32"),
            weights=self._sent(state, profile, final),
            sum=self._sum_note(state, profile),
        )

    @property
    def reports_statistics(self) -> bool:
        """True if clients report statistics of the final models (see `estimates_statistics`)."""
        shared = self.known_entries.shared_of(self.initial)
        return estimates_statistics(self.training, self.algorithm.privacy is not None, shared)

    def model_group_of(self, profile: Profile) -> str:
        """Return the name of the model group of `profile`'s client."""
        return self.algorithm.model_group_of(profile.client, profile.modality)

    def start_of(self, profile: Profile) -> Weights:
        """Return the initial weights of the model of `profile`'s client."""
        names = (client_model(profile.client), profile.modality)
        return next((self.starts[name] for name in names if name in self.starts), self.initial)

    def _control(self, state: State, group: str) -> Weights | None:
        if not self.algorithm.clients_correct_gradients:
            return None
        parameters = self.known_entries.parameters_of(state.server[group])
        zeros = {name: np.zeros_like(array) for name, array in parameters.items()}
        return state.optimiser_state.get(group, {}).get("control", zeros)

    def _style(self, state: State, round_: int, client: str, others: Sequence[str]) -> Weights | None:
        """Return the renderer of one of the `others`, drawn by seed; None if there is none."""
        lenders = [other for other in others if other in state.styles]
        if self.style_from is None or round_ < self.style_from or not lenders:
            return None
        drawn = derive_rng(self.seed, "style", round_, client).integers(len(lenders))
        return state.styles[lenders[int(drawn)]]


def estimates_statistics(training: TrainOptions, private: bool, weights: Weights) -> bool:
    """Return whether clients estimate the statistics of BatchNorm of final models with these `weights`.

    Differential privacy (`private`) rules it out, and models without BatchNorm, or with frozen statistics,
    have nothing to estimate.
    """
    wanted = training.precise_norm and training.norm == "batch" and not private
    return wanted and bool(statistics_of(weights))


def client_model(client: str) -> str:
    """Return the name of a client's own model, as `flames export --model` knows it."""
    return f"client:{client}"


def initial_seed(seed: int) -> int:
    """Return the seed of the initial weights of a run with `seed`."""
    return derive_seed(seed, "initial weights")


def with_model_groups(state: State | None, plan: Plan, profiles: Iterable[Profile]) -> State:
    """Return `state` (None: before the first round) with all clients, and with a model for every model group.

    A model has the same initial weights whenever the first client of its group joins. A peer of a swarm has a
    model of its own from the start, since the model of its group is an observer's.
    """
    started = state or State(0, {})
    known = list(profiles)
    of_client = {one.client: started.group_of(one.client, one.modality, plan.algorithm) for one in known}
    first_of = {of_client[profile.client]: profile for profile in reversed(known)}
    new = {
        group: {name: array.copy() for name, array in plan.start_of(first_of[group]).items()}
        for group in dict.fromkeys(of_client.values())
        if group not in started.server
    }
    clients = {client: LastReport(group) for client, group in of_client.items()} | started.clients
    server = {**started.server, **new}
    if plan.topology is None:
        return replace(started, server=server, clients=clients)
    own = {
        client: plan.known_entries.shared_of(server[group])
        for client, group in of_client.items()
        if client not in started.personal
    }
    personal = ClientModels.of(started.personal).replaced_by(own)
    return replace(started, server=server, clients=clients, personal=personal)
