"""A run whose models are taken for use: its models after one round, and what is known of its clients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.config import FederateConfig, Wanted, check_section
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.core.federated.round_parts import scored_parts
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.plan import estimates_statistics
from flames_cli.stages.export.clients import (
    ClientFacts,
    clients_of_partition,
    clients_of_records,
    clients_that_joined,
)
from flames_cli.stages.rounds import ChosenRound, choose_round, load_round, read_passes, read_run_rounds
from flames_cli.stages.run_plugins import plugin_facts, require_run_plugins
from flames_cli.store.clients import read_clients
from flames_cli.store.partition import open_partition
from flames_cli.store.partitions import name_now
from flames_cli.store.runs import RunFolder, find_run, read_config, read_rounds


@dataclass(frozen=True, slots=True)
class SourceRun:
    """A run and its models after one round."""

    folder: RunFolder
    config: FederateConfig
    """Options with which it was made."""
    algorithm: Algorithm
    state: State
    chosen: ChosenRound
    """The round of `state`, and why it was chosen."""
    clients: tuple[ClientFacts, ...]
    size: int
    """Side of its images, in pixels."""
    channels: int
    validation: Mapping[str, Mapping[str, float]]
    """Validation of each client's model after this round, by client, or of a model's clients together, by
    `group_label`: dice, images, patients."""
    privacy: Mapping[str, float]
    """Differential privacy spent: epsilon and delta; empty without."""
    has_stale_statistics: bool
    """True if the clients did not estimate the statistics of BatchNorm of this round's models."""
    plugins: tuple[str, ...] = ()
    """Plug-ins of the run, with package and version."""
    plugin_notes: tuple[str, ...] = ()
    """Notes on plug-ins of the run that are others here."""

    @property
    def is_private(self) -> bool:
        """True if the run has differential privacy, which covers no facts of single clients."""
        return self.config.dp_noise is not None


def read_source_run(workspace: Path, name: str | None, wanted: Wanted | None) -> SourceRun:
    """Return run `name` (None: the newest) with the models of the round that is wanted.

    Unlike an evaluation, this needs no partition: the data may be at their sites.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: it does not offer that round, its checkpoint is damaged, or it was made with options
            that this release does not know.
    """
    folder = find_run(workspace, name)
    tables = read_config(folder.config)
    made = check_section(FederateConfig, tables.get("federate", {}), where=f"{folder.config}: ")
    notes = require_run_plugins(folder, tables.get("run", {}))
    chosen = choose_round(read_run_rounds(folder, made), wanted)
    state = load_round(folder, chosen)
    lines = read_rounds(folder.rounds)
    facts = tables.get("run", {})
    weights = next(iter(state.server.values()), {})
    return SourceRun(
        folder=folder,
        config=made,
        algorithm=get_algorithm(made.strategy),
        state=state,
        chosen=chosen,
        clients=_find_clients(workspace, folder, made, tables),
        size=int(facts.get("size", 0)),
        channels=int(facts.get("channels", 1)),
        validation=_validation_after(state.round, lines, read_passes(folder, lines)),
        privacy=_privacy_spent(made, state.round, lines),
        has_stale_statistics=state.statistics is None
        and estimates_statistics(made.training, made.dp_noise is not None, weights),
        plugins=plugin_facts(facts),
        plugin_notes=tuple(notes),
    )


def _find_clients(
    workspace: Path, run: RunFolder, made: FederateConfig, tables: Mapping[str, Any]
) -> tuple[ClientFacts, ...]:
    """Return the clients of a run. Those of real nodes are not the clients of a partition on this machine."""
    if not ENGINES[made.engine].clients_hold_their_data and (name := name_now(workspace, tables)):
        found = clients_of_partition(open_partition(workspace, name))
        return tuple(one for one in found if not made.clients or one.name in made.clients)
    joined = clients_that_joined(read_clients(run.joined_clients))
    return joined or clients_of_records(read_rounds(run.rounds))


def _validation_after(
    round_: int, lines: Sequence[Mapping[str, Any]], passes: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return the validation of the models after a round, by client.

    It is that of the pass after the last round; without a pass, that of the models which the clients
    received in the next round.
    """
    final = [one for one in passes if one["round"] == round_]
    if final:
        return _scores_of(final[0], "val_dice")
    following = [line for line in lines if line["round"] == round_ + 1]
    return _scores_of(following[0], "received_val_dice") if following else {}


def _scores_of(record: Mapping[str, Any], name: str) -> dict[str, dict[str, float]]:
    found = {}
    for client in scored_parts(record):
        dice, images, patients = (client.get(key) for key in (name, "n_val", "n_val_patients"))
        if isinstance(dice, int | float) and images:
            numbers = {"dice": dice, "images": images, "patients": patients or 0}
            found[str(client["client"])] = {key: float(value) for key, value in numbers.items()}
    return found


def _privacy_spent(made: FederateConfig, round_: int, lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    line = next((line for line in lines if line["round"] == round_), {})
    if made.dp_noise is None or line.get("epsilon") is None:
        return {}
    return {"epsilon": float(line["epsilon"]), "delta": float(line["delta"])}
