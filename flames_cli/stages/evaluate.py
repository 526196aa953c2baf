"""A run and its shards → metrics a case, tables of clients and server models, and pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.config import EvaluateConfig, FederateConfig, check_section
from flames_cli.core.aggregation import Algorithm, State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import options_for
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.evaluation_files import Evaluation, draw_evaluation, write_evaluation
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.scoring import METRICS, Row, Score, Subject, make_rows, score_subject
from flames_cli.store.checkpoint import index_path, load_state
from flames_cli.store.h5 import hash_file, read_shard_sets
from flames_cli.store.manifest import Partition, checked_shard, read_partition
from flames_cli.store.runs import RunFolder, find_run, read_config, read_rounds

TestSets = dict[tuple[str, str], ShardDataset]
"""By shard and name: that of an unseen site's test set, else empty."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run, its newest models and what they were made with."""

    folder: RunFolder
    strategy: str
    algorithm: Algorithm
    state: State
    checkpoint: str
    """SHA-256 of the checkpoint's index, which holds those of its files."""
    segmenter: Segmenter


def evaluate(config: EvaluateConfig, progress: Progress = silent) -> Evaluation:
    """Score a run's newest models on the test sets, which no other stage has touched.

    Without a choice of `client_test` or `server_test`, both are done.

    Raises:
        MissingArtifact: no partition, no such run, no checkpoint.
        FlamesError: the run was made on another partition, or a file is damaged.
    """
    partition_file = config.workspace / "partition.json"
    partition = read_partition(partition_file)
    run = load_run(config, config.run, partition_file)
    other = load_run(config, config.compare, partition_file) if config.compare else None
    chosen = {"client_test": config.client_test, "server_test": config.server_test}
    splits = [split for split, wanted in chosen.items() if wanted or not any(chosen.values())]
    scored: list[tuple[Subject, list[Score]]] = []
    tables: dict[str, list[Row]] = {split: [] for split in splits}
    cases: list[tuple[object, ...]] = []
    for split in splits:
        tests = load_tests(config.workspace, partition, split)
        twins = find_subjects(tests, partition, other, split) if other else []
        subjects = find_subjects(tests, partition, run, split)
        for done, subject in enumerate(subjects, start=1):
            scores = score_subject(run.segmenter, subject)
            cases += _case_rows(run, subject, scores)
            compared = None
            if other and (twin := _twin(twins, subject)):
                compared = score_subject(other.segmenter, twin)
                cases += _case_rows(other, twin, compared)
            tables[split] += make_rows(subject, scores, compared)
            scored.append((subject, scores))
            progress(f"evaluate {split}", done, len(subjects))
    result = Evaluation(
        run=run.folder.name,
        strategy=run.strategy,
        round=run.state.round,
        compare=other.folder.name if other else None,
        models={loaded.folder.name: loaded.checkpoint for loaded in (run, other) if loaded},
        tables=tables,
        folder=run.folder.evaluation,
        untested=_find_untested(partition, run),
    )
    write_evaluation(result, cases)
    if config.overlays:
        draw_evaluation(result.folder, run.segmenter, scored, read_rounds(run.folder.rounds))
    return result


def load_run(config: EvaluateConfig, name: str | None, partition_file: Path) -> LoadedRun:
    """Run `name` (None: the newest) with its newest checkpoint.

    Raises:
        MissingArtifact: no such run, or it has no checkpoint.
        FlamesError: it was made on another partition (its test patients may have been trained on), or with
            options that this release does not know.
    """
    folder = find_run(config.workspace, name)
    tables = read_config(folder.config)
    facts = tables.get("run", {})
    if facts.get("partition_sha256") != hash_file(partition_file):
        raise FlamesError(
            f"run '{folder.name}' was made on another partition than {partition_file}, so its test patients "
            "may have been trained on; federate again with --fresh"
        )
    made = check_section(FederateConfig, tables.get("federate", {}), where=f"{folder.config}: ")
    options = options_for(facts.get("channels", 1), made.model_options)
    segmenter = Segmenter(made.model, options, config.device, config.precision, config.batch_size)
    state = load_state(folder.checkpoints)
    checkpoint = hash_file(index_path(folder.checkpoints, state.round))
    return LoadedRun(folder, made.strategy, get_algorithm(made.strategy), state, checkpoint, segmenter)


def load_tests(workspace: Path, partition: Partition, split: str) -> TestSets:
    """The test sets of a split, decoded once however many models are scored on them.

    A client has one; the server one of the clients' own sites, and one for each unseen site.
    """
    tests: TestSets = {}
    if split == "client_test":
        for client in partition.clients:
            path = checked_shard(workspace, client)
            tests[client.shard, ""] = ShardDataset(read_shard_sets(path, "test"))
        return tests
    for server in partition.server:
        sets = read_shard_sets(checked_shard(workspace, server), "test")
        named = dict(zip(sorted(server.images), sets, strict=True))
        seen = [cases for name, cases in named.items() if name not in server.sites]
        tests[server.shard, ""] = ShardDataset(seen)
        tests |= {(server.shard, name): ShardDataset([named[name]]) for name in server.sites}
    return tests


def find_subjects(tests: TestSets, partition: Partition, run: LoadedRun, split: str) -> list[Subject]:
    """Every client with its own test set; or every server model with the unseen patients of a modality.

    A test set without patients is left out.
    """
    find = _find_clients if split == "client_test" else _find_server_models
    return [subject for subject in find(tests, partition, run) if len(subject.data)]


def _find_clients(tests: TestSets, partition: Partition, run: LoadedRun) -> Iterator[Subject]:
    for entry in partition.clients:
        group = run.algorithm.group_of(entry.name, entry.modality)
        weights = run.state.model_for(entry.name, group)
        yield Subject(entry.name, entry.modality, "client_test", tests[entry.shard, ""], weights)


def _find_server_models(tests: TestSets, partition: Partition, run: LoadedRun) -> Iterator[Subject]:
    for server in partition.server:
        modality = server.modality
        members = [client for client in partition.clients if client.modality == modality]
        groups = dict.fromkeys(run.algorithm.group_of(client.name, client.modality) for client in members)
        if not members and "all" in run.state.server:  # one model for all, also for whom nobody trained
            groups = {"all": None}
        for group in groups:
            label = modality if group in ("all", modality) else f"{modality} by {group}"
            weights = run.state.server[group]
            for name in ("", *server.sites):
                data, site = tests[server.shard, name], server.sites.get(name, "")
                yield Subject(label, modality, "server_test", data, weights, site)


def _find_untested(partition: Partition, run: LoadedRun) -> dict[str, str]:
    """Clients and modalities that are in no table, each with its reason."""
    untested = {client.name: "no test patients" for client in partition.clients if not client.images["test"]}
    if "all" not in run.state.server:
        alone = {server.modality for server in partition.server} - set(partition.modalities)
        untested |= dict.fromkeys(sorted(alone), "no client of this modality trained a model")
    return untested


def _twin(twins: Sequence[Subject], subject: Subject) -> Subject | None:
    """The other run's subject with the same test set: the same label, or its only model of that modality."""
    twins = [twin for twin in twins if twin.data is subject.data]
    for twin in twins:
        if twin.label == subject.label:
            return twin
    of_modality = [twin for twin in twins if twin.modality == subject.modality]
    return of_modality[0] if subject.split == "server_test" and len(of_modality) == 1 else None


def _case_rows(run: LoadedRun, subject: Subject, scores: Sequence[Score]) -> list[tuple[object, ...]]:
    start = (run.folder.name, subject.label, subject.modality)
    return [
        (
            *start,
            score.dataset,
            score.organ,
            score.site,
            subject.split,
            score.case,
            metric,
            score.metrics[metric],
        )
        for score in scores
        for metric in METRICS
    ]
