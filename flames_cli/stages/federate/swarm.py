"""`--engine swarm`: its topology, and the options that need a server."""

from collections import Counter
from collections.abc import Iterable

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.topology import NEIGHBOURS, Kind, Topology
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.fed.engines import ENGINES

DEFAULT: Kind = "ring"

_COMPARED = "it compares the reports of all clients, and a peer has those of its neighbours only"
_WAITS = "no server waits for peers, and a round takes those that are online"

NEED_A_SERVER = {
    "dp_noise": "a server that all trust adds the noise, and here neighbours see a peer's own weights",
    "aggregation": _COMPARED,
    "max_update_norm": _COMPARED,
    "server_momentum": "only a server makes steps with momentum",
    "ema": "only a server averages its models over rounds",
    "fraction": "nobody draws the peers of a round; --absent is the probability that a peer is offline",
    "rounds_by": "peers of different modalities exchange nothing, and a simulation runs all peers in turn",
    "style_from": "a server passes styles from client to client",
    "min_clients": _WAITS,
    "min_clients_by_modality": _WAITS,
    "wait_for_clients": _WAITS,
    "round_timeout": _WAITS,
    "wire_dtype": "a report in a narrow type is a difference from a model that neighbours do not have",
}
"""Options that a swarm cannot have, with the reason. Their default values mean that they are not used."""

OF_SWARM = ("topology", "neighbours", "absent")
"""Options of swarms only."""


def is_supported(algorithm: Algorithm) -> bool:
    """Return whether peers can use the algorithm: it blends by FLAMES, or takes a plain mean."""
    takes_mean = algorithm.takes_one_mean and not algorithm.server_steps_by_adam
    return algorithm.blend == "flames" or takes_mean


def topology_of(config: FederateConfig) -> Topology | None:
    """Return the connections of the peers; None with an engine that has a server.

    Raises:
        FlamesError: an option is of swarms only, or of random graphs only.
    """
    given = {key: getattr(config, key) for key in OF_SWARM if getattr(config, key)}
    if ENGINES[config.engine].has_server:
        for key, value in given.items():
            raise FlamesError(
                f"got --{key} {value} with --engine {config.engine}, whose clients have a server and no "
                f"neighbours, expected --engine swarm; pass it, or leave --{key} out"
            )
        return None
    kind = config.topology or DEFAULT
    if config.neighbours is not None and kind != "random":
        raise FlamesError(
            f"got --neighbours {config.neighbours} with --topology {kind}, which decides the number of "
            "neighbours itself, expected --topology random; pass it, or leave --neighbours out"
        )
    return Topology(kind, config.seed, config.neighbours or NEIGHBOURS, config.absent)


def check_swarm(config: FederateConfig, algorithm: Algorithm, clients: Iterable[tuple[str, str]]) -> None:
    """Check that a swarm of these `clients`, by name and modality, can have these options; else do nothing.

    Raises:
        FlamesError: an option or the strategy needs a server, or there is no such random graph.
    """
    topology = topology_of(config)
    if topology is None:
        return
    for key, reason in NEED_A_SERVER.items():
        value = getattr(config, key)
        if value and value != FederateConfig.model_fields[key].default:
            flag = key.removesuffix("_by_modality").replace("_", "-")
            shown = " ".join(f"{name}={n}" for name, n in value.items()) if isinstance(value, dict) else value
            raise FlamesError(f"got --{flag} {shown} with --engine swarm: {reason}; leave --{flag} out")
    if not is_supported(algorithm):
        able = [name for name in ALGORITHMS.builtin if is_supported(ALGORITHMS[name])]
        raise FlamesError(
            f"got --strategy {config.strategy} with --engine swarm, whose peers only blend the weights that "
            f"they hear, expected one of {', '.join(able)}; choose one of them, or an engine with a server"
        )
    sizes = Counter(algorithm.model_group_of(client, modality) for client, modality in clients)
    for group, n_peers in sizes.items():
        if reason := topology.impossible_reason(group, n_peers):
            raise FlamesError(reason)


def options_of_swarm(config: FederateConfig) -> dict[str, object]:
    """Return the options of swarms with the values that are used, as a run stores them."""
    topology = topology_of(config)
    if topology is None:
        return {}
    neighbours = topology.neighbours if topology.kind == "random" else None
    return {"topology": topology.kind, "neighbours": neighbours}
