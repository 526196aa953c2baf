"""Secure aggregation: bytes and processor seconds of a client and of the server, against a plain sum.

    python benchmarks/secure.py costs --clients 3 10 30 100 --megabytes 54
    python benchmarks/secure.py ciphers
    python benchmarks/secure.py graph

`costs` lets all clients do the exchanges KEYS, SHARES and UNMASK, but only `--real` of them (3) encode and
mask a vector, whose seconds are the mean; the server adds the same vectors until it has as many as there are
clients, and opens the sum, with all masks that this needs. With as many clients as `--real`, the sum is
compared with the clients' vectors. The plain sum of the same weights, in the same process, is FLAMES' own
(`RunningSum`, float64). `ciphers` compares key streams of AES-256-CTR and ChaCha20. `graph` prints how many
neighbours a client of SecAgg+ (Bell et al. 2020) needs, in place of all others.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.stats import hypergeom

from flames_cli.core.federated.running_sum import RunningSum
from flames_cli.core.rng import derive_rng
from flames_cli.secagg import Collector, Participant, Session
from flames_cli.secagg.fixed_point import Words
from flames_cli.secagg.masks import BLOCK


def main() -> None:
    """Print the table that the options ask for."""
    options = parse_options()
    {"costs": print_costs, "ciphers": print_ciphers, "graph": print_graph}[options.what](options)


def parse_options() -> argparse.Namespace:
    """Return the options: what is measured, and its sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="what", required=True)
    costs = parts.add_parser("costs")
    costs.add_argument("--clients", type=int, nargs="+", default=[3, 10, 30, 100])
    costs.add_argument("--megabytes", type=float, default=54.0, help="of a model in float32")
    costs.add_argument("--bits", type=int, nargs="+", default=[64, 32])
    costs.add_argument("--vectors", type=int, nargs="+", default=[1, 2], help="1: means; 2: FLAMES")
    costs.add_argument("--lost", type=float, nargs="+", default=[0.0, 0.1], help="fraction that drops out")
    costs.add_argument("--repeats", type=int, default=3, help="the fewest seconds of each step are printed")
    costs.add_argument("--real", type=int, default=3, help="clients that mask a vector")
    ciphers = parts.add_parser("ciphers")
    ciphers.add_argument("--megabytes", type=float, default=108.0)
    graph = parts.add_parser("graph")
    graph.add_argument("--clients", type=int, nargs="+", default=[30, 50, 100, 200, 500, 1000])
    graph.add_argument("--corrupt", type=float, nargs="+", default=[1 / 3, 0.2, 0.1])
    graph.add_argument("--lost", type=float, default=0.1)
    return parser.parse_args()


@dataclass
class Costs:
    """Costs of one session."""

    client: dict[str, float] = field(default_factory=dict)
    """Processor seconds of one client by exchange."""
    server: dict[str, float] = field(default_factory=dict)
    """Processor seconds of the server by exchange."""
    small_up: int = 0
    """Bytes that one client sends in KEYS, SHARES and UNMASK."""
    small_down: int = 0
    """Bytes that one client receives in them."""


@contextmanager
def clock(seconds: dict[str, float], name: str, of: int = 1) -> Iterator[None]:
    """Add the processor seconds of the block, divided by `of`, to `seconds`."""
    started = time.process_time()
    yield
    seconds[name] = seconds.get(name, 0.0) + (time.process_time() - started) / of


def print_costs(options: argparse.Namespace) -> None:
    """Print a row for each number of clients, size of words, number of vectors and fraction of drop-outs."""
    weights = derive_rng(0, "secure").standard_normal(int(options.megabytes * 1e6 / 4), np.float32)
    print(f"{weights.size:,} weights; processor seconds. Plain: the server adds the same weights.")
    print(
        "| clients | bits | vectors | lost | vector MB | other kB up / down | client: mask | client: rest "
        "| server: add | server: open | server: rest | plain sum | server / plain | client / plain of one |"
    )
    print("|" + "---|" * 14)
    for clients in options.clients:
        plain = min(measure_plain(weights, clients) for _ in range(options.repeats))
        for bits in options.bits:
            for vectors in options.vectors:
                for lost in sorted({int(part * clients) for part in options.lost}):
                    case = (clients, bits, vectors, lost)
                    runs = [measure(weights, *case, options.real) for _ in range(options.repeats)]
                    print_row(fewest(runs), case, weights.size, plain)


def measure_plain(weights: np.ndarray, clients: int) -> float:
    """Return the processor seconds of the server's plain sum of as many models."""
    started = time.process_time()
    total = RunningSum()
    for _ in range(clients):
        total.add({"w": weights}, 1.0 / clients)
    return time.process_time() - started


def fewest(runs: list[Costs]) -> Costs:
    """Return the fewest seconds of each step of several runs."""
    best = runs[0]
    for run in runs[1:]:
        for seconds, others in ((best.client, run.client), (best.server, run.server)):
            seconds.update({name: min(value, others[name]) for name, value in seconds.items()})
    return best


def print_row(costs: Costs, case: tuple[int, int, int, int], size: int, plain: float) -> None:
    """Print a row of the table."""
    clients, bits, vectors, lost = case
    plain *= vectors
    client, server = costs.client, costs.server
    rest = sum(seconds for name, seconds in client.items() if name != "mask")
    other = sum(seconds for name, seconds in server.items() if name not in ("add", "open"))
    cells = [
        f"{clients}",
        f"{bits}",
        f"{vectors}",
        f"{lost}",
        f"{size * vectors * bits / 8 / 1e6:.0f}",
        f"{costs.small_up / 1e3:.1f} / {costs.small_down / 1e3:.1f}",
        f"{client['mask']:.2f}",
        f"{rest:.3f}",
        f"{server['add']:.2f}",
        f"{server['open']:.2f}",
        f"{other:.3f}",
        f"{plain:.2f}",
        f"{sum(server.values()) / plain:.1f}",
        f"{sum(client.values()) / (plain / clients):.1f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def measure(weights: np.ndarray, clients: int, bits: int, vectors: int, lost: int, real: int) -> Costs:
    """Return the costs of one session, in which the last `lost` clients send no vector."""
    costs = Costs()
    session = Session.new("benchmark", 1, "ct", bits)
    length = weights.size * vectors
    collector = Collector(session, length)
    names = [f"site-{i:04}" for i in range(clients)]
    with clock(costs.client, "keys", clients):
        participants = {name: Participant.create(session, name) for name in names}
    with clock(costs.server, "keys"):
        for name, one in participants.items():
            collector.add_advert(name, one.advert)
        adverts = collector.close_adverts()
    with clock(costs.client, "shares", clients):
        dealings = {name: one.share(adverts) for name, one in participants.items()}
    with clock(costs.server, "shares"):
        for name, dealing in dealings.items():
            collector.add_dealing(name, dealing)
        dealt = {name: collector.dealt_for(name) for name in collector.close_dealings()}
    with clock(costs.client, "shares", clients):
        for name, one in participants.items():
            one.receive(dealt[name])
    reporting = names[: clients - lost]
    masked = mask_some(participants, weights, vectors, reporting[:real], costs)
    for i, name in enumerate(reporting):
        with clock(costs.server, "add"):
            collector.add(name, masked[i % len(masked)])
    for name in reporting[real:]:  # the step is done, without the vector: its seconds are those of the others
        participants[name].mask(np.zeros(1, masked[0].dtype))
    survivors = collector.close_vectors()
    with clock(costs.client, "unmask", len(survivors)):
        openings = {name: participants[name].unmask(survivors) for name in survivors}
    with clock(costs.server, "unmask"):
        for name, opening in openings.items():
            collector.add_opening(name, opening)
    with clock(costs.server, "open"):
        total = collector.open()
    if len(reporting) <= real:
        check(total, weights, vectors, session, len(reporting))
    first = names[0]
    costs.small_up = sum(len(one.to_bytes()) for one in (adverts[0], dealings[first], openings[first]))
    costs.small_down = len(session.to_bytes()) + sum(len(one.to_bytes()) for one in adverts)
    costs.small_down += len(dealt[first].to_bytes()) + sum(len(name) + 4 for name in survivors)
    return costs


def mask_some(
    participants: dict[str, Participant], weights: np.ndarray, vectors: int, names: list[str], costs: Costs
) -> list[Words]:
    """Return the masked vectors of some clients, and add their mean seconds of encoding and masking."""
    masked = []
    for name in names:
        fixed = participants[name].session.fixed_point
        words = np.empty(weights.size * vectors, fixed.dtype)
        with clock(costs.client, "encode", len(names)):
            for part in np.split(words, vectors):
                fixed.encode_into(part, weights, 0.5, len(participants), "w")
        with clock(costs.client, "mask", len(names)):
            participants[name].mask(words)
        masked.append(words)
    return masked


def check(total: Words, weights: np.ndarray, vectors: int, session: Session, clients: int) -> None:
    """Stop if the opened sum is not that of the clients' weights, within the bound of the fixed point."""
    found = session.fixed_point.decode(total).reshape(vectors, -1)
    error = np.abs(found - clients * 0.5 * weights.astype(np.float64)).max()
    if error > session.fixed_point.error(clients):
        raise SystemExit(f"the error of the sum is {error:g}")


def print_ciphers(options: argparse.Namespace) -> None:
    """Print the gigabytes a second of the two key streams, with one thread."""
    n_blocks = int(options.megabytes * 1e6 / BLOCK)
    streams: dict[str, Callable[[], Cipher[modes.CTR | None]]] = {
        "AES-256-CTR": lambda: Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))),
        "ChaCha20": lambda: Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), None),
    }
    print("| stream | GB/s | GB/s, added to a vector |\n|---|---|---|")
    zeros, memory = bytes(BLOCK), bytearray(BLOCK + 16)
    vector, words = np.zeros(BLOCK // 8, np.uint64), np.frombuffer(memory, np.uint64, BLOCK // 8)
    for name, make in streams.items():
        speeds = []
        for add in (False, True):
            fastest = float("inf")
            for _ in range(7):
                context, started = make().encryptor(), time.process_time()
                for _ in range(n_blocks):
                    context.update_into(zeros, memory)
                    if add:
                        np.add(vector, words, out=vector)
                fastest = min(fastest, time.process_time() - started)
            speeds.append(f"{n_blocks * BLOCK / fastest / 1e9:.1f}")
        print(f"| {name} | {' | '.join(speeds)} |")


SECURITY, CORRECTNESS = 40, 30
"""Bell et al.'s σ and η: a set of neighbours is bad with a probability of at most 2^-σ, useless with 2^-η."""


def print_graph(options: argparse.Namespace) -> None:
    """Print the smallest number of neighbours and its threshold, by clients and fraction of corrupt ones."""
    print("| clients | " + " | ".join(f"{corrupt:.0%} corrupt" for corrupt in options.corrupt) + " |")
    print("|" + "---|" * (1 + len(options.corrupt)))
    for clients in options.clients:
        cells = [find_neighbours(clients, corrupt, options.lost) for corrupt in options.corrupt]
        print(f"| {clients} | " + " | ".join(cells) + " |")


def find_neighbours(clients: int, corrupt: float, lost: float) -> str:
    """Return the smallest number of neighbours that is secure and correct, with its threshold.

    A graph of k neighbours (a Harary graph in a random order) has to stay connected without the corrupt and
    the lost clients; fewer than t neighbours of each client may be corrupt, and at least t must remain.
    """
    for neighbours in range(2, clients - 1):
        if clients * (corrupt + lost) ** (neighbours / 2) > 2.0**-SECURITY:
            continue
        for needed in range(neighbours // 2 + 1, neighbours + 1):
            bad = clients * hypergeom.sf(needed - 1, clients - 1, int(corrupt * clients), neighbours)
            left = clients - 1 - int(lost * clients)
            useless = clients * hypergeom.cdf(needed - 1, clients - 1, left, neighbours)
            if bad <= 2.0**-SECURITY and useless <= 2.0**-CORRECTNESS:
                return f"{neighbours} (threshold {needed})"
    return "all others"


if __name__ == "__main__":
    main()
