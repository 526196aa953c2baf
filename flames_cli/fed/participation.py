"""Participation: the clients that a round needs and asks, and the time that the server waits for them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flames_cli.core.rng import derive_rng
from flames_cli.fed.messages import Profile


@dataclass(frozen=True, slots=True)
class Participation:
    """Number of clients that a round needs, and time limits in seconds."""

    min_clients: int = 1
    """Smallest number of clients of every modality that takes part."""
    min_clients_by_modality: Mapping[str, int] = field(default_factory=dict)
    """Other numbers for single modalities; a modality named here takes part from the first round on."""
    expected_nodes: int = 0
    """Number of nodes for which the first round waits."""
    join_timeout_s: float = 0.0
    """Longest time that the server waits for enough clients before every round."""
    all_must_join: bool = True
    """True: a node that may not join ends the run; False: the other nodes continue without it."""
    round_timeout_s: float | None = None
    """Time after which a round ends without late clients; None: it waits for all."""
    in_flight: int | None = None
    """Number of clients that train simultaneously; None: all."""

    def need_of(self, modality: str) -> int:
        """Return the smallest number of clients of `modality`."""
        return self.min_clients_by_modality.get(modality, self.min_clients)

    def shortage(self, present: Iterable[Profile], known: Iterable[Profile]) -> list[str]:
        """Return what a round is short of, one text for each modality; empty if there are enough clients.

        Args:
            present: clients that can be asked now.
            known: all clients that have joined so far, present or not.
        """
        counts = Counter(profile.modality for profile in present)
        modalities = dict.fromkeys((*self.min_clients_by_modality, *(profile.modality for profile in known)))
        return [
            f"{need} of {modality} are needed, {counts[modality]} can be asked"
            for modality in modalities
            if counts[modality] < (need := self.need_of(modality))
        ]


ALL_AT_ONCE = Participation()
"""Participation in one process: every node is present from the start."""


def draw_clients(
    clients: Sequence[tuple[int, Profile]],
    participation: Participation,
    fraction: float,
    seed: int,
    round_: int,
) -> list[tuple[int, Profile]]:
    """Return the clients that `round_` asks: a `fraction` of the `clients` of each modality, in their order.

    They are at least one of each modality and as many as `participation` needs, since a model without a
    client would not change in this round. Every client draws a number by seed, round and name, and those with
    the smallest numbers are asked: the draw does not depend on the engine, and the presence or absence of one
    client changes the place of one other at most.
    """
    numbers = {
        profile.client: float(derive_rng(seed, "fraction", round_, profile.client).random())
        for _, profile in clients
    }
    drawn: set[str] = set()
    for modality, present in Counter(profile.modality for _, profile in clients).items():
        size = size_of_draw(fraction, present, participation.need_of(modality))
        names = [profile.client for _, profile in clients if profile.modality == modality]
        drawn.update(sorted(names, key=lambda client: (numbers[client], client))[:size])
    return [client for client in clients if client[1].client in drawn]


def size_of_draw(fraction: float, present: int, need: int) -> int:
    """Return how many of the `present` clients of a modality a round asks, which needs `need` of them."""
    return min(max(math.floor(fraction * present + 0.5), need, 1), present)
