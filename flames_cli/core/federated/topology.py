"""The neighbours of the peers of a swarm, and which peers are offline in a round; all drawn by seed.

Graphs do not depend on the order in which peers join, and neither does the draw of one peer's absence on the
other peers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError

Kind = Literal["ring", "random", "full"]

NEIGHBOURS = 3
"""Number of neighbours of each peer in a random graph, unless the user sets another number."""

Graph = dict[str, tuple[str, ...]]
"""Neighbours of each peer, sorted by name, without the peer itself."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Connections between the peers of each model group.

    Raises:
        FlamesError: the probability is outside [0, 1).
    """

    kind: Kind
    """`ring` in the order of names, a `random` regular graph that is connected, or `full`."""
    seed: int
    neighbours: int = NEIGHBOURS
    """Number of neighbours of each peer, for `random`."""
    absent: float = 0.0
    """Probability that a peer is offline in a round, independent of the other peers and rounds."""

    def __post_init__(self) -> None:
        if not 0 <= self.absent < 1:
            raise FlamesError(
                f"--absent is {self.absent:g}, expected a probability from 0 to below 1; choose such as 0.2"
            )

    def graph(self, group: str, peers: Iterable[str]) -> Graph:
        """Return the neighbours of each of the `peers` of a model group.

        Raises:
            FlamesError: there is no random graph with this number of neighbours.
        """
        names = sorted(set(peers))
        if self.kind == "full":
            links = [(a, b) for a in names for b in names if a < b]
        elif self.kind == "ring":
            links = _ring(names)
        else:
            if reason := self.impossible_reason(group, len(names)):
                raise FlamesError(reason)
            links = self._draw(group, names) if len(names) > 1 else []
        found: dict[str, set[str]] = {name: set() for name in names}
        for a, b in links:
            found[a].add(b)
            found[b].add(a)
        return {name: tuple(sorted(others)) for name, others in found.items()}

    def impossible_reason(self, group: str, n_peers: int) -> str:
        """Return why `n_peers` have no such graph; "" if they have one."""
        k = self.neighbours
        if self.kind != "random" or n_peers == 1:
            return ""
        possible = [
            n for n in range(1, n_peers) if n * n_peers % 2 == 0 and (n > 1 or n_peers == 2)
        ]  # links with one neighbour each connect two peers only
        if k in possible:
            return ""
        numbers = ", ".join(map(str, possible)) or "none"
        return (
            f"--topology random with --neighbours {k} is impossible for the {n_peers} peers of {group}, "
            f"expected one of {numbers} (below the number of peers; the product of both is even); change "
            "--neighbours, or pass --topology ring or full"
        )

    def is_online(self, peer: str, round_: int) -> bool:
        """Return whether `peer` takes part in `round_`."""
        return bool(derive_rng(self.seed, "absent", round_, peer).random() >= self.absent)

    def _draw(self, group: str, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the links of a connected random regular graph.

        Source: the pairing of Steger and Wormald 1999, repeated until it succeeds. A graph that is nearly
        full is drawn as the complement of one with few links, which succeeds sooner.
        """
        n, k = len(names), self.neighbours
        rng = derive_rng(self.seed, "topology", group)
        sparse = min(k, n - 1 - k)
        while True:
            pairs = _pair(n, sparse, rng)
            if pairs is None:
                continue
            if sparse != k:
                pairs = {(a, b) for a in range(n) for b in range(a + 1, n)} - pairs
            if _is_connected(n, pairs):
                return [(names[a], names[b]) for a, b in sorted(pairs)]


def _ring(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the links of a ring; two peers have one link."""
    return [(names[i - 1], name) for i, name in enumerate(names) if names[i - 1] != name]


def _pair(n: int, k: int, rng: np.random.Generator) -> set[tuple[int, int]] | None:
    """Return the links of a random graph of `n` nodes with `k` links each; None if the draw got stuck."""
    free = [node for node in range(n) for _ in range(k)]
    pairs: set[tuple[int, int]] = set()
    while free:
        suitable = {(a, b) for a in set(free) for b in set(free) if a < b and (a, b) not in pairs}
        if not suitable:
            return None
        order = rng.permutation(len(free))
        free = [free[index] for index in order]
        left: list[int] = []
        for a, b in zip(free[::2], free[1::2], strict=True):
            pair = (min(a, b), max(a, b))
            if a == b or pair in pairs:
                left += [a, b]
            else:
                pairs.add(pair)
        free = left
    return pairs


def _is_connected(n: int, pairs: Iterable[tuple[int, int]]) -> bool:
    """Return whether a path leads from the first of `n` nodes to every other one."""
    links = {*pairs}
    reached, new = {0}, {0}
    while new:
        new = {b for pair in links for a, b in (pair, pair[::-1]) if a in new} - reached
        reached |= new
    return len(reached) == n
