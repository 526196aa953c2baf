"""Content of a report: a run or a family with its records, its partition and its evaluations."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.config import CompareConfig, EvaluateConfig, FederateConfig, ReportConfig, check_section
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES
from flames_cli.stages.compare.files import Comparison
from flames_cli.stages.compare.inputs import Evaluated, check_same_tests, gather_evaluations
from flames_cli.stages.compare.samples import Protocol, choose_scores, pool_scores
from flames_cli.stages.compare.tables import Tables, make_tables
from flames_cli.stages.evaluate.stage import find_evaluation
from flames_cli.stages.progress import Progress
from flames_cli.stages.run_plugins import require_run_plugins
from flames_cli.store.clients import JoinedClient, read_clients
from flames_cli.store.partition import NamedPartition, open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import RunFolder, find_runs, read_config, read_member, read_rounds
from flames_cli.store.schema import CLIENT_TESTS, check_stamp, read_json

IMAGE_METRICS = ("iou", "dice", "accuracy")
"""Metrics of Tables 3 and 4 of the FLAMES paper."""
VOLUME_METRICS = ("dice", "hd95", "nsd", "volume-error")

Record = Mapping[str, Any]

_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\](?:[^/\\\s'\":;,()]+[/\\])+")
"""Folders at the beginning of a complete path, which may contain the name of a user."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as its files describe it."""

    folder: RunFolder
    config: FederateConfig
    facts: Record
    """Entries of its configuration besides its options."""
    lines: Sequence[Record]
    """Lines of rounds.jsonl."""
    seed: int
    fold: int | None

    @property
    def algorithm(self) -> Algorithm:
        """Strategy of the run."""
        return get_algorithm(self.config.strategy)

    @property
    def rounds_done(self) -> int:
        """Number of rounds that are done."""
        return max((line["round"] for line in self.lines), default=0)

    @property
    def is_finished(self) -> bool:
        """True if all rounds are done."""
        return self.rounds_done >= self.config.rounds

    @property
    def at_sites(self) -> bool:
        """True if the clients were real nodes, whose data are at their sites."""
        return ENGINES[self.config.engine].clients_hold_their_data

    @property
    def modalities(self) -> dict[str, str]:
        """Modality of each client that a round has asked."""
        return {client["client"]: client["modality"] for line in self.lines for client in line["clients"]}


@dataclass(frozen=True, slots=True)
class Results:
    """Scores of the run, and of those that it is compared with, on the same test cases."""

    found: Sequence[Evaluated]
    """Evaluations; the first is that of the run."""
    comparison: Comparison
    """Numbers with one value for each volume and still image."""
    images: Tables
    """Numbers with one value for each selected image, as in the paper."""

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return self.comparison.runs


@dataclass(frozen=True, slots=True)
class Gathered:
    """Content of a report before it is put into words."""

    workspace: Path
    name: str
    """Name of the run or family."""
    runs: Sequence[RunRecord]
    partition: NamedPartition | None
    """Partition of the first run; None if it is not on this machine."""
    no_partition: str
    """Reason why there is no partition; empty if there is one."""
    results: Results | None
    no_results: str
    """Reason why there are no results; empty if there are."""
    tests: Record | None
    """Reports of real nodes about their test sets, as in client-tests.json."""
    joined: Sequence[JoinedClient]
    """Clients as they joined; empty if the run has no such record."""
    pictures: bool
    """True if the page may contain pictures of patients."""

    @property
    def first(self) -> RunRecord:
        """The run, or the first one of the family."""
        return self.runs[0]

    @property
    def is_family(self) -> bool:
        """True if the name is that of several runs with different seeds or folds."""
        return self.name != self.first.folder.name

    def hide_paths(self, text: str) -> str:
        """Return a message without the path of the workspace, and with the last part of each other complete
        path: the page may leave the site."""
        for folder in (self.workspace, self.workspace.resolve()):
            text = text.replace(f"{folder}{os.sep}", "")
        return _FOLDERS.sub("", text)

    def options_of(self, run: RunRecord) -> dict[str, Any]:
        """Return the options of a run; on the page of a private run without those of single clients."""
        options = run.config.model_dump(mode="json", exclude={"plugins"})  # paths of this machine
        if not self.private:
            return options
        return {
            key: {name: one for name, one in value.items() if name not in run.modalities}
            if isinstance(value, dict)
            else value
            for key, value in options.items()
        }

    @property
    def private(self) -> bool:
        """True if a run has differential privacy: the page then says nothing about single clients."""
        compared = self.results.found if self.results else ()
        own = any(run.config.dp_noise is not None for run in self.runs)
        return own or any(one.content.privacy for one in compared)


def gather(config: ReportConfig, progress: Progress) -> Gathered:
    """Return all that the report of a run or family is about; runs without an evaluation are evaluated.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: a file of a run cannot be read; pictures of a private run are asked for; or the runs to
            compare have different test patients.
    """
    name, folders = find_runs(config.workspace, config.run)
    runs = [_read_run(folder) for folder in folders]
    first = runs[0]
    if any(run.config.dp_noise is not None for run in runs):
        _check_pictures(config, name)
    partition, no_partition = _find_partition(config.workspace, first)
    results, no_results = _gather_results(config, name, runs, progress)
    for one in results.found if results else ():
        if one.content.privacy:
            _check_pictures(config, one.content.run)
    tests = first.folder.client_tests
    return Gathered(
        workspace=config.workspace,
        name=name,
        runs=runs,
        partition=partition,
        no_partition=no_partition,
        results=results,
        no_results=no_results,
        tests=_read_tests(tests) if tests.is_file() else None,
        joined=read_clients(first.folder.joined_clients),
        pictures=config.data,
    )


def _check_pictures(config: ReportConfig, private: str) -> None:
    """Check that no pictures are asked for, since the run called `private` has differential privacy.

    Raises:
        FlamesError: they are.
    """
    if config.data:
        raise FlamesError(
            f"got --data, and run '{private}' has differential privacy (--dp-noise), so its report contains "
            "nothing about single clients; leave --data out"
        )


def _read_run(folder: RunFolder) -> RunRecord:
    tables, member = read_config(folder.config), read_member(folder)
    options = check_section(FederateConfig, tables.get("federate", {}), where=f"{folder.config}: ")
    require_run_plugins(folder, tables.get("run", {}))
    return RunRecord(
        folder=folder,
        config=options,
        facts=tables.get("run", {}),
        lines=read_rounds(folder.rounds),
        seed=options.seed,
        fold=member.fold,
    )


def _read_tests(path: Path) -> Record:
    found = read_json(path, CLIENT_TESTS)
    check_stamp(found, CLIENT_TESTS, path)
    return found


def _find_partition(workspace: Path, run: RunRecord) -> tuple[NamedPartition | None, str]:
    try:
        return open_partition(workspace, find_run_partition(workspace, run.folder)), ""
    except FlamesError as error:
        if run.at_sites:
            return None, "The data of the clients are at their sites."
        return None, f"The partition of the run is not here: {error}."


def _gather_results(
    config: ReportConfig, name: str, runs: Sequence[RunRecord], progress: Progress
) -> tuple[Results | None, str]:
    """Return the scores of the run, or the reason why there are none; with other runs that is an error."""
    options = CompareConfig(
        workspace=config.workspace,
        runs=(name, *config.compare),
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
        overlays=False,
    )
    try:
        if len(runs) == 1 and not runs[0].is_finished:
            _check_evaluated(config, runs[0])
        found, notes = gather_evaluations(options, progress)
        return _make_results(found, notes, progress), ""
    except FlamesError as error:
        if config.compare:
            raise
        if runs[0].at_sites:
            return None, "the clients test at their own sites, and the server has no test images here"
        return None, str(error)


def _check_evaluated(config: ReportConfig, run: RunRecord) -> None:
    """Check that a run that is not finished has an evaluation: its test patients are not looked at between
    its rounds.

    Raises:
        FlamesError: it has none.
    """
    options = EvaluateConfig(workspace=config.workspace, run=run.folder.name, device=config.device)
    if not run.lines or find_evaluation(options) is None:
        raise FlamesError(
            f"run '{run.folder.name}' has done {run.rounds_done} of {run.config.rounds} rounds, and a report "
            f"evaluates finished runs only; continue it with `flames federate --resume {run.folder.name}`"
        )


def _make_results(found: Sequence[Evaluated], notes: Sequence[str], progress: Progress) -> Results:
    """Return the numbers of both protocols.

    Raises:
        FlamesError: the runs have different test patients.
    """
    progress("tables", 0, 2)
    by_volume = _tables_of(found, "auto", VOLUME_METRICS)
    progress("tables", 1, 2)
    comparison = Comparison(
        name="",
        folder=Path(),
        evaluations=tuple(one.content for one in found),
        tables=by_volume,
        evaluated=tuple(one.content.run for one in found if one.made_now),
        notes=tuple(notes),
    )
    images = _tables_of(found, "slices", IMAGE_METRICS)
    progress("tables", 2, 2)
    return Results(found, comparison, images)


def _tables_of(found: Sequence[Evaluated], protocol: Protocol, metrics: Sequence[str]) -> Tables:
    pools = [pool_scores(choose_scores(one.cases, one.volumes, protocol, one.content.run)) for one in found]
    check_same_tests(found, pools)
    return make_tables(pools, None, "dice", 0, metrics)
