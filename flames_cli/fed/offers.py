"""The offers of a round: the models among which each client of flames-adaptive chooses."""

from dataclasses import replace

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import Candidates, Offer
from flames_cli.core.federated.choice import Choice
from flames_cli.core.federated.reports import State
from flames_cli.fed.messages import Profile, TrainTask
from flames_cli.fed.plan import Plan


class Offers:
    """Makes the offers after a round, with one pass over the weights of each model group."""

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan = plan
        self._state = state
        self._candidates: dict[str, Candidates] = {}

    def add_to(self, task: TrainTask, profile: Profile) -> TrainTask:
        """Return `task` with the offer to the client; unchanged if the client has no choice."""
        offer = self.to(profile)
        if offer is None:
            return task
        return replace(task, weights=offer.own, blend=offer.blend, prior=offer.prior)

    def to(self, profile: Profile) -> Offer | None:
        """Return the offer to the client; None if it has no choice."""
        return self._candidates_of(profile).offer(profile.client)

    def start(self, profile: Profile, choice: Choice | None) -> Weights:
        """Return the server's weights of the model with which the client began, if `choice` is its choice."""
        group = self._plan.model_group_of(profile)
        start = self._plan.known_entries.shared_of(self._state.model_for(profile.client, group))
        offer = self.to(profile) if choice else None
        return {**start, **offer.candidate(choice.pick)} if choice and offer else start

    def is_made_to(self, profile: Profile) -> bool:
        """Return True if the client has a choice."""
        return self._candidates_of(profile).offers(profile.client)

    def _candidates_of(self, profile: Profile) -> Candidates:
        group = self._plan.model_group_of(profile)
        if group not in self._candidates:
            self._candidates[group] = self._state.candidates(group)
        return self._candidates[group]
