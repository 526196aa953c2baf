"""The models among which the clients of flames-adaptive choose: blends of their own weights and the others'.

Server and client make a candidate with `Offer.candidate` from the same two models, so that both have the
same bits.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.blocks import in_blocks
from flames_cli.core.federated.choice import (
    FLAMES,
    OWN,
    Preference,
    Prior,
    choose,
    flames_alpha,
    own_share,
    pool,
)
from flames_cli.core.federated.final_statistics import VARIANCE
from flames_cli.core.federated.flames_sums import FlamesSums
from flames_cli.core.federated.running_sum import cast


@dataclass(frozen=True, slots=True)
class Offer:
    """The two models from which all candidates of a client follow, and the knowledge before its choice."""

    own: Weights
    """The client's own weights w."""
    blend: Weights
    """FLAMES' blend F = α·w + (1−α)·M, with the weighted mean M of the other clients."""
    prior: Prior

    def candidate(self, name: str) -> Weights:
        """Return the candidate `name`.

        With a share a in place of α, the blend is w + t·(F − w) with t = (1−a)/(1−α). So M does not have to
        travel, and FLAMES' candidate is F, bit for bit.
        """
        if name in (FLAMES, OWN):
            return self.blend if name == FLAMES else self.own
        n_clients = self.prior.n_clients
        step = (1 - own_share(name, n_clients)) / (1 - flames_alpha(n_clients))
        return {
            entry: blend_entry(entry, array, self.blend[entry], step) for entry, array in self.own.items()
        }


def mix(first: Weights, second: Weights, share: float) -> Weights:
    """Return (1 − share)·first + share·second for every entry, in the dtype of `first`."""
    return {entry: blend_entry(entry, array, second[entry], share) for entry, array in first.items()}


def blend_entry(entry: str, own: NDArray[Any], blend: NDArray[Any], step: float) -> NDArray[Any]:
    """Return own + step·(blend − own), computed in float64, in the dtype of `own`."""
    made = np.empty(own.shape, own.dtype)
    for values, blended, out in in_blocks(own, blend, made):
        mixed = np.multiply(values, 1 - step, dtype=np.float64)
        mixed += np.multiply(blended, step, dtype=np.float64)
        # Rounding could make a variance of 0 negative.
        out[...] = cast(np.maximum(mixed, 0.0) if entry.endswith(VARIANCE) else mixed, own.dtype)
    return made


class Candidates:
    """The candidates of a model group's clients after a round."""

    def __init__(
        self,
        own: Mapping[str, Weights],
        preferences: Mapping[str, Preference],
        reported: Set[str],
    ) -> None:
        """Sum the weights of the clients that are blended.

        Args:
            own: last reported weights of the group's clients.
            preferences: records of the same clients.
            reported: clients that reported in the group's last round, whose weights are blended; a client
                that was absent is added to its own blend.
        """
        self._own = own
        self._preferences = preferences
        self._reported = sorted(reported)  # the order of arrival does not change how sums are rounded
        counts = [preferences[name].n_examples for name in self._reported]
        self._sums = FlamesSums([own[name] for name in self._reported], counts) if reported else None

    def offers(self, client: str) -> bool:
        """Return True if `client` has weights of its own and others to blend them with."""
        return client in self._own and self._n_clients(client) > 1

    def offer(self, client: str) -> Offer | None:
        """Return what `client` chooses from; None if it has no choice: `offers` is False."""
        if not self.offers(client) or self._sums is None:
            return None
        own, preference = self._own[client], self._preferences[client]
        if client in self._reported:
            blend = self._sums.personalise(own, preference.n_examples)
        else:
            blend = self._sums.personalise_absent(own)
        others = [one for name, one in sorted(self._preferences.items()) if name != client]
        prior = Prior(self._n_clients(client), preference.rounds, preference.gains, pool(others))
        return Offer(own, blend, prior)

    def expected(self, client: str) -> Weights:
        """Return the model that a client with weights of its own would choose without another validation."""
        offer = self.offer(client)
        if offer is None:
            return self._own[client]
        return offer.candidate(choose(offer.prior, self._preferences[client].patients, {}))

    def _n_clients(self, client: str) -> int:
        return len({*self._reported, client})
