"""A node's settings and its profile."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context

from flames_cli.core.imaging.preparation import Preparation
from flames_cli.errors import FlamesError
from flames_cli.fed.messages import Profile
from flames_cli.plugins.packages import usable_here
from flames_cli.store.h5 import read_shard_summary
from flames_cli.store.runs import read_nodes

SHARD_SEPARATOR = "\n"
"""Separator of the paths of a node that pools several shards; a path may contain a colon."""

Shards = tuple[Path, ...]

NodeConfig = Mapping[str, str | int | float | bool]
"""Configuration of a node, in the types that Flower allows."""

NODES = "nodes"
"""Key in a run's configuration: the file with the configurations of all simulated nodes, in order."""
PARTITION = "partition-id"
"""Key in a simulated node's configuration: its index in that file."""


class Declined(FlamesError):
    """A node does not take part; its owner allows to send the reason to the server."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Settings that a node's owner has chosen."""

    shards: Shards
    client: str | None = None
    """Name of the client; None: the name in its shard."""
    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"
    """Compilation of the model: one of `learn.train_options.COMPILE`."""
    client_state: Path | None = None
    """Folder of the client state, which a client stores between rounds."""
    min_examples: int = 1
    """Smallest number of training images with which the node takes part."""
    per_case: bool = False
    """True: the node reports the score of every test case; False: only their mean."""
    cache_share: float = 0.25
    """Largest share of the machine's memory that decoded shards may use between rounds."""
    models: Path | None = None
    """Folder in which the node keeps its own models; None: it keeps none, as in a simulation."""
    private: bool = False
    """True: error messages stay in the node's own log, since they may name files and patients."""
    identity: Path | None = None
    """File of the site's private key towards the other sites; None: it has none, as in a simulation."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """Identities of the only other clients with which the node shares secure sums; empty: any clients."""
    secure_only: bool = False
    """True: the node takes part only in runs with secure aggregation."""


def settings_of(context: Context) -> NodeSettings:
    """Return the node's settings, from its configuration or, if Flower simulates the nodes, from the run's.

    Raises:
        FlamesError: the configuration names no shard.
    """
    config: NodeConfig = context.node_config
    if PARTITION in config and NODES in context.run_config:
        config = read_nodes(Path(str(context.run_config[NODES])))[int(config[PARTITION])]
    shards = str(config.get("shard", ""))
    if not shards:
        raise FlamesError(
            "the node's configuration names no shard, expected --node-config 'shard=\"FILE.h5\"'"
        )
    models, identity = context.node_config.get("models"), config.get("identity")
    folder = config.get("client-state") or config.get("memory")  # "memory": the key in earlier releases
    return NodeSettings(
        shards=tuple(Path(path) for path in shards.split(SHARD_SEPARATOR)),
        client=str(config["client"]) if config.get("client") else None,
        device=str(config.get("device", "auto")),
        precision=str(config.get("precision", "auto")),
        compile=str(config.get("compile", "auto")),
        client_state=Path(str(folder)) if folder else None,
        min_examples=int(config.get("min-examples", 1)),
        per_case=bool(config.get("per-case", False)),
        cache_share=float(config.get("cache-share", 0.25)),
        models=Path(str(models)) if models else None,
        private=bool(config.get("private", False)),
        identity=Path(str(identity)) if identity else None,
        peers=json.loads(str(config.get("peers", "{}"))),
        secure_only=bool(config.get("secure-only", False)),
    )


def client_name(settings: NodeSettings) -> str:
    """Return the name of the node's client, without reading more of its shards than that needs.

    Raises:
        FlamesError: the first shard cannot be read.
    """
    return settings.client or read_shard_summary(settings.shards[0]).name


def read_profile(settings: NodeSettings) -> Profile:
    """Return the node's profile, read from its shards.

    Raises:
        FlamesError: the shards differ in modality, size or number of channels.
        Declined: there are fewer training images than the node's owner asks for.
    """
    summaries = [read_shard_summary(path) for path in settings.shards]
    for name in ("modality", "size", "channels"):
        values = sorted({str(getattr(summary, name)) for summary in summaries})
        if len(values) > 1:
            raise FlamesError(
                f"the node's shards differ in {name} ({' and '.join(values)}), expected the same for all; "
                "start one node for each"
            )
    n_train = sum(summary.images["train"] for summary in summaries)
    if n_train < settings.min_examples:
        # The message does not state the number of images, which the owner wants to keep private.
        raise Declined(
            f"its owner takes part with {settings.min_examples} training images or more, and it has fewer"
        )
    return Profile(
        client=settings.client or summaries[0].name,
        modality=summaries[0].modality,
        organ=", ".join(dict.fromkeys(summary.organ for summary in summaries)),
        n_train=n_train,
        n_val=sum(summary.images["val"] for summary in summaries),
        size=summaries[0].size,
        channels=summaries[0].channels,
        preparation=_pool([summary.preparation for summary in summaries]),
        plugins=usable_here(),
        secure_only=settings.secure_only,
    )


def _pool(preparations: Sequence[Preparation]) -> Preparation:
    """Return the rules of all shards, each once."""
    return Preparation(
        intensities=tuple(dict.fromkeys(rule for one in preparations for rule in one.intensities)),
        planes=tuple(dict.fromkeys(plane for one in preparations for plane in one.planes)),
        mask_resize=tuple(dict.fromkeys(method for one in preparations for method in one.mask_resize)),
        empty=tuple(dict.fromkeys(rule for one in preparations for rule in one.empty)),
    )
