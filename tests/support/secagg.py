"""A session of secure aggregation in this process: clients may drop out, and what is sent is recorded."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from flames_cli.secagg import Advert, Collector, Dealing, Dealt, Opening, Participant, Session
from flames_cli.secagg.fixed_point import Words


def new_session(bits: int = 64, group: str = "ct", round: int = 2) -> Session:
    return Session.new("run-1", round, group, bits)


@dataclass
class Federation:
    """The clients of a session and their server; each step sends bytes and reads all states again."""

    vectors: Mapping[str, Words]
    bits: int = 64
    session: Session = field(init=False)
    collector: Collector = field(init=False)
    clients: dict[str, Participant] = field(init=False, default_factory=dict)
    texts: list[bytes] = field(init=False, default_factory=list)
    """Adverts, dealings and openings that the collector got, in order."""
    masked: dict[str, Words] = field(init=False, default_factory=dict)
    """Vectors that the collector got."""

    def __post_init__(self) -> None:
        self.session = new_session(self.bits)
        self.collector = Collector(self.session, len(next(iter(self.vectors.values()))))

    def advertise(self, lost: Collection[str] = ()) -> None:
        for name in self.vectors:
            if name not in lost:
                session = Session.from_bytes(self.session.to_bytes())
                self.clients[name] = Participant.create(session, name)
                self.collector.add_advert(name, Advert.from_bytes(self.record(self.clients[name].advert)))

    def share(self, lost: Collection[str] = ()) -> None:
        adverts = [Advert.from_bytes(advert.to_bytes()) for advert in self.collector.close_adverts()]
        self.go_on(lost)
        for name, client in self.clients.items():
            self.collector.add_dealing(name, Dealing.from_bytes(self.record(client.share(adverts))))

    def receive(self, lost: Collection[str] = ()) -> None:
        going_on = self.collector.close_dealings()
        self.go_on({*lost, *(name for name in self.clients if name not in going_on)})
        for name, client in self.clients.items():
            client.receive(Dealt.from_bytes(self.collector.dealt_for(name).to_bytes()))

    def train(self, lost: Collection[str] = ()) -> None:
        self.go_on(lost)
        for name, client in self.clients.items():
            words = self.vectors[name].copy()
            client.mask(words)
            self.masked[name] = words
            self.collector.add(name, words)

    def unmask(self, lost: Collection[str] = ()) -> None:
        survivors = self.collector.close_vectors()
        self.go_on(lost)
        for name, client in self.clients.items():
            self.collector.add_opening(name, Opening.from_bytes(self.record(client.unmask(survivors))))

    def until(self, step: Callable[[], None]) -> None:
        """Do the steps from the first to this one."""
        for one in (self.advertise, self.share, self.receive, self.train, self.unmask):
            one()
            if one == step:
                return

    def run(self, lost: Mapping[str, Collection[str]] | None = None) -> Words:
        """Return the opened sum; `lost` has the clients that are silent from a step on."""
        gone = lost or {}
        for step in (self.advertise, self.share, self.receive, self.train, self.unmask):
            step(gone.get(step.__name__, ()))
        return self.collector.open()

    def go_on(self, lost: Collection[str]) -> None:
        """Write and read the state of each client that is not lost."""
        kept = {name: client for name, client in self.clients.items() if name not in lost}
        self.clients = {name: Participant.from_bytes(client.to_bytes()) for name, client in kept.items()}

    def record(self, message: Advert | Dealing | Opening) -> bytes:
        self.texts.append(message.to_bytes())
        return self.texts[-1]


def make_vectors(clients: int, length: int = 10, bits: int = 64, seed: int = 0) -> dict[str, Words]:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(f"<u{bits // 8}")
    limit = 2**bits
    return {
        f"site-{i:03}": rng.integers(0, limit, length, dtype=dtype, endpoint=False) for i in range(clients)
    }


def add_up(vectors: Mapping[str, Words], names: Collection[str] | None = None) -> Words:
    chosen = [words for name, words in vectors.items() if names is None or name in names]
    return np.sum(chosen, axis=0, dtype=chosen[0].dtype)
