"""Runs of a workspace, read from their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.api.options import PathLike, find_workspace
from flames_cli.api.partitions import Client, clients_of
from flames_cli.api.rounds import ClientRound, Round, make_client_rounds, make_round
from flames_cli.config import FederateConfig, check_section, options_of_run
from flames_cli.core.federated.best_round import score_rounds
from flames_cli.errors import MissingArtifact
from flames_cli.fed.engines import ENGINES
from flames_cli.stages.federate.validation import ValidationRow, read_validation
from flames_cli.stages.rounds import ChosenRound, choose_round, read_passes, read_run_rounds
from flames_cli.store.clients import read_clients
from flames_cli.store.partition import open_partition
from flames_cli.store.partitions import name_now
from flames_cli.store.runs import (
    PARTITION_SHA256,
    RunFolder,
    find_members,
    find_run,
    planned_names,
    read_config,
    read_rounds,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its options, its rounds and its clients. `pandas.DataFrame(run.rounds)` makes a table."""

    name: str
    folder: Path
    config: FederateConfig = field(repr=False)
    """Options of the run. `federate(run.config)` continues it, if rounds are left."""
    rounds: list[Round] = field(repr=False)
    """One record for each round."""
    client_rounds: list[ClientRound] = field(repr=False)
    """One record for each client and round."""
    clients: list[Client] = field(repr=False)
    validation: list[ValidationRow] = field(repr=False)
    """Validation Dice in the best and the last round: of each client, of each server model with several
    clients, and of all clients; empty without validation patients."""
    best_round: int | None
    """Stored round with the highest validation Dice; None: no round has one, or the run must not choose."""
    chosen_round: int | None
    """Round whose models `evaluate`, `export` and `predict` take; None: there is no checkpoint yet."""
    chosen_why: str = field(repr=False)
    """Reason for this choice; empty without a checkpoint."""
    validation_dice: float | None
    """Validation Dice of the chosen round."""
    notes: list[str] = field(default_factory=list, repr=False)
    """Remarks of the call that made or continued the run; empty if the run was only opened."""
    resumed_from: int = 0
    """Round after which that call continued; 0 for a new run, and if the run was only opened."""

    @property
    def workspace(self) -> Path:
        """The workspace of the run."""
        return self.folder.parent.parent

    @property
    def is_finished(self) -> bool:
        """True if all rounds are done."""
        return bool(self.rounds) and self.rounds[-1].round >= self.config.rounds


@dataclass(frozen=True, slots=True)
class Family:
    """Runs that differ only in their seed or their fold."""

    name: str
    """Name by which `evaluate` and `compare` pool them."""
    runs: list[Run]
    unfinished: list[str]
    """Names of the runs for which the family was started and that are not finished."""

    @property
    def rounds(self) -> list[Round]:
        """The records of all runs; each names its run."""
        return [record for run in self.runs for record in run.rounds]


def open_run(name: str | None = None, workspace: PathLike | None = None) -> Run:
    """Return a run of a workspace.

    Args:
        name: name of the run; None: the newest.
        workspace: its folder; None: that of FLAMES_WORKSPACE, or `flames-workspace`.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: a file of the run is damaged, or the name is that of several runs (see `open_family`).

    Examples:
        >>> run = flames.open_run("flames", workspace)
        >>> [record.round for record in run.rounds]
        [1, 2]
        >>> run.is_finished
        True
    """
    folder = find_workspace(workspace)
    return read_run(folder, find_run(folder, name))


def open_family(name: str, workspace: PathLike | None = None) -> Family:
    """Return the runs that `federate_family` has made under a name, by seed and fold.

    Args:
        name: name of the family.
        workspace: its folder; None: that of FLAMES_WORKSPACE, or `flames-workspace`.

    Raises:
        MissingArtifact: there is no such family.
        FlamesError: a file of a run is damaged.

    Examples:
        >>> [run.config.seed for run in flames.open_family("seeds", workspace).runs]
        [0, 1]
    """
    folder = find_workspace(workspace)
    found = find_members(folder, name)
    if not found:
        raise MissingArtifact(
            f"no family '{name}' in {folder / 'runs'}, expected runs of several seeds or folds; make them "
            "with `federate_family`, or `flames federate --seeds` or `--folds`"
        )
    return read_family(folder, name, found)


def read_family(workspace: Path, name: str, members: Sequence[RunFolder]) -> Family:
    """Return a family, which has `members`.

    Raises:
        FlamesError: a file of a run is damaged.
    """
    runs = [read_run(workspace, one) for one in members]
    done = {run.name for run in runs if run.is_finished}
    return Family(name, runs, [one for one in planned_names(name, members) if one not in done])


def read_run(workspace: Path, run: RunFolder, notes: Sequence[str] = (), resumed_from: int = 0) -> Run:
    """Return a run, with what the call that made it knows.

    Raises:
        FlamesError: a file of the run is damaged, or names code.
    """
    tables = read_config(run.config)
    options = {**options_of_run(tables, run.config), "workspace": workspace}
    config = check_section(FederateConfig, options, where=f"{run.config}: ")
    lines = read_rounds(run.rounds)
    scores = score_rounds(lines, read_passes(run, lines))
    best, chosen = _choose(run, config)
    return Run(
        name=run.name,
        folder=run.path,
        config=config,
        rounds=[make_round(run.name, line, scores) for line in lines],
        client_rounds=make_client_rounds(run.name, lines),
        clients=_find_clients(workspace, run, config, tables),
        validation=_validation(run, config, lines) if chosen else [],
        best_round=best,
        chosen_round=chosen.round if chosen else None,
        chosen_why=chosen.why if chosen else "",
        validation_dice=chosen.validation_dice if chosen else None,
        notes=list(notes),
        resumed_from=resumed_from,
    )


def _choose(run: RunFolder, config: FederateConfig) -> tuple[int | None, ChosenRound | None]:
    try:
        rounds = read_run_rounds(run, config)
    except MissingArtifact:
        return None, None
    return rounds.best_rounds.get("best"), choose_round(rounds, None)


def _validation(
    run: RunFolder, config: FederateConfig, lines: Sequence[Mapping[str, Any]]
) -> list[ValidationRow]:
    found = read_validation(run, config, lines)
    return [*found.clients, *found.models, found.total] if found else []


def _find_clients(
    workspace: Path, run: RunFolder, config: FederateConfig, tables: Mapping[str, Any]
) -> list[Client]:
    """Return the clients of a run: of its partition, or as real nodes described themselves."""
    if not ENGINES[config.engine].clients_hold_their_data and tables.get("run", {}).get(PARTITION_SHA256):
        if not (name := name_now(workspace, tables)):
            return []
        return clients_of(open_partition(workspace, name).content)
    return [
        Client(one.client, one.modality, one.organ, train_images=one.n_train, val_images=one.n_val)
        for one in (read_clients(run.joined_clients) if run.joined_clients.is_file() else ())
    ]
