"""What a node owns and what its owner has set, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from flames_cli.errors import FlamesError
from flames_cli.fed.messages import Profile
from flames_cli.store.h5 import read_shard_summary
from flames_cli.store.runs import read_nodes

SHARD_SEPARATOR = "\n"
"""Between the paths of a node that pools several shards: a path may well hold a colon."""

Shards = tuple[Path, ...]

NodeConfig = Mapping[str, str | int | float | bool]
"""A node's configuration, as Flower carries it."""

NODES = "nodes"
"""In a run's configuration: the file with every simulated node's own configuration, in order."""
PARTITION = "partition-id"
"""In a simulated node's configuration: its place in that file."""


class Declined(FlamesError):
    """A node takes no part, for a reason that its owner lets be told."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node's owner has set."""

    shards: Shards
    client: str | None = None
    """Its name; None: its shard's."""
    device: str = "auto"
    precision: str = "auto"
    client_state: Path | None = None
    """Folder of the client state, which a client stores between rounds."""
    min_examples: int = 1
    """Training images below which the node takes no part."""
    per_case: bool = False
    """Whether it tells the score of every test case, or their mean alone."""
    cache_share: float = 0.25
    """Of the machine's memory that its decoded shards may take between rounds."""
    private: bool = False
    """Whether its errors stay in its own log: their words may name files and patients."""


def settings_of(context: Context) -> NodeSettings:
    """What this node's owner has set: in its configuration or, where Flower simulates nodes, in the run's.

    Raises:
        FlamesError: it names no shard.
    """
    config: NodeConfig = context.node_config
    if PARTITION in config and NODES in context.run_config:
        config = read_nodes(Path(str(context.run_config[NODES])))[int(config[PARTITION])]
    shards = str(config.get("shard", ""))
    if not shards:
        raise FlamesError(
            "the node's configuration names no shard, expected --node-config 'shard=\"FILE.h5\"'"
        )
    folder = config.get("client-state") or config.get("memory")  # the name of earlier releases
    return NodeSettings(
        shards=tuple(Path(path) for path in shards.split(SHARD_SEPARATOR)),
        client=str(config["client"]) if config.get("client") else None,
        device=str(config.get("device", "auto")),
        precision=str(config.get("precision", "auto")),
        client_state=Path(str(folder)) if folder else None,
        min_examples=int(config.get("min-examples", 1)),
        per_case=bool(config.get("per-case", False)),
        cache_share=float(config.get("cache-share", 0.25)),
        private=bool(config.get("private", False)),
    )


def read_profile(settings: NodeSettings) -> Profile:
    """What this node says of itself, from its shards.

    Raises:
        FlamesError: shards of several modalities, sizes or numbers of channels cannot be one client; fewer
            training images than its owner asks for.
    """
    summaries = [read_shard_summary(path) for path in settings.shards]
    for name in ("modality", "size", "channels"):
        values = sorted({str(getattr(summary, name)) for summary in summaries})
        if len(values) > 1:
            raise FlamesError(f"one client cannot hold shards of {name} {' and '.join(values)}")
    n_train = sum(summary.images["train"] for summary in summaries)
    if n_train < settings.min_examples:
        # Not how many there are: that is what the owner keeps to itself.
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
    )
