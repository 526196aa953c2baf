"""A run and its shards → metrics a case, tables of clients and server models, and pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.core.aggregation import Algorithm, State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.scoring import METRICS, Row, Score, Subject, make_rows, score_subject
from flames_cli.store.atomic import write_csv, write_json
from flames_cli.store.checkpoint import load_state
from flames_cli.store.figures import OverlayPanel, OverlayRow, draw_overlays, draw_rounds
from flames_cli.store.h5 import hash_file, read_shard_sets
from flames_cli.store.manifest import Partition, checked_shard, read_partition
from flames_cli.store.runs import RunFolder, find_run, read_config, read_rounds
from flames_cli.store.schema import EVALUATION, stamp

CASE_COLUMNS = ("run", "client", "modality", "dataset", "organ", "split", "case", "metric", "value")


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run, its newest models and what they were made with."""

    folder: RunFolder
    strategy: str
    algorithm: Algorithm
    state: State
    segmenter: Segmenter


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The tables of one run, beside another's where one was named."""

    run: str
    strategy: str
    round: int
    compare: str | None
    clients: list[Row]
    server: list[Row]
    folder: Path
    files: list[str]


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
    both = config.client_test == config.server_test
    scored: list[tuple[Subject, list[Score]]] = []
    tables: dict[str, list[Row]] = {"client_test": [], "server_test": []}
    cases: list[tuple[object, ...]] = []
    for split, wanted in (("client_test", config.client_test), ("server_test", config.server_test)):
        if not (wanted or both):
            continue
        subjects = list(find_subjects(config.workspace, partition, run, split))
        theirs = (
            {s.label: s for s in find_subjects(config.workspace, partition, other, split)} if other else {}
        )
        for done, subject in enumerate(subjects, start=1):
            scores = score_subject(run.segmenter, subject)
            compared = None
            cases += _case_rows(run, subject, scores)
            if other and (twin := _twin(theirs, subject)):
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
        clients=tables["client_test"],
        server=tables["server_test"],
        folder=run.folder.evaluation,
        files=[],
    )
    _write(config, result, run, scored, cases)
    return result


def load_run(config: EvaluateConfig, name: str | None, partition_file: Path) -> LoadedRun:
    """Run `name` (None: the newest) with its newest checkpoint.

    Raises:
        MissingArtifact: no such run, or it has no checkpoint.
        FlamesError: it was made on another partition: its test patients may have been trained on.
    """
    folder = find_run(config.workspace, name)
    tables = read_config(folder.config)
    if tables.get("run", {}).get("partition_sha256") != hash_file(partition_file):
        raise FlamesError(
            f"run '{folder.name}' was made on another partition than {partition_file}, so its test patients "
            "may have been trained on; federate again with --fresh"
        )
    made = FederateConfig(**tables["federate"])
    segmenter = Segmenter(made.model, made.model_options, config.device, config.precision, config.batch_size)
    state = load_state(folder.checkpoints)
    return LoadedRun(folder, made.strategy, get_algorithm(made.strategy), state, segmenter)


def find_subjects(workspace: Path, partition: Partition, run: LoadedRun, split: str) -> Iterator[Subject]:
    """Every client with its own test set; or every server model with the unseen patients of a modality."""
    if split == "client_test":
        for entry in partition.clients:
            data = ShardDataset(read_shard_sets(checked_shard(workspace, entry), "test"))
            if len(data):
                group = run.algorithm.group_of(entry.name, entry.modality)
                yield Subject(entry.name, entry.modality, split, data, run.state.model_for(entry.name, group))
        return
    for server in partition.server:
        data = ShardDataset(read_shard_sets(checked_shard(workspace, server), "test"))
        members = [client for client in partition.clients if client.modality == server.modality]
        for group in dict.fromkeys(
            run.algorithm.group_of(client.name, client.modality) for client in members
        ):
            label = server.modality if group in ("all", server.modality) else f"{server.modality} by {group}"
            yield Subject(label, server.modality, split, data, run.state.server[group])


def _twin(theirs: dict[str, Subject], subject: Subject) -> Subject | None:
    """The other run's subject with the same test set: the same label, or its only model of that modality."""
    if subject.label in theirs or subject.split == "client_test":
        return theirs.get(subject.label)
    of_modality = [other for other in theirs.values() if other.modality == subject.modality]
    return of_modality[0] if len(of_modality) == 1 else None


def _case_rows(run: LoadedRun, subject: Subject, scores: Sequence[Score]) -> list[tuple[object, ...]]:
    start = (run.folder.name, subject.label, subject.modality)
    return [
        (*start, score.dataset, score.organ, subject.split, score.case, metric, score.metrics[metric])
        for score in scores
        for metric in METRICS
    ]


def _write(
    config: EvaluateConfig,
    result: Evaluation,
    run: LoadedRun,
    scored: list[tuple[Subject, list[Score]]],
    cases: list[tuple[object, ...]],
) -> None:
    """All files of the evaluation; `result.files` names them."""
    folder = result.folder
    write_csv(folder / "cases.csv", CASE_COLUMNS, cases)
    result.files.append("cases.csv")
    header = _table_header(result.compare)
    for name, rows in (("clients.csv", result.clients), ("server.csv", result.server)):
        if rows:
            write_csv(folder / name, header, [_table_row(row, header) for row in rows])
            result.files.append(name)
    write_json(folder / "summary.json", summary_json(result))
    result.files.append("summary.json")
    if config.overlays:
        for split in ("client_test", "server_test"):
            chosen = [(subject, scores) for subject, scores in scored if subject.split == split and scores]
            if chosen:
                name = f"overlays-{split.removesuffix('_test')}.png"
                draw_overlays(folder / name, [_overlay_row(run.segmenter, *pair) for pair in chosen])
                result.files.append(name)
        if series := learning_curves(read_rounds(run.folder.rounds)):
            draw_rounds(folder / "rounds.png", series)
            result.files.append("rounds.png")


def summary_json(result: Evaluation) -> dict[str, Any]:
    """What summary.json holds."""
    return {
        **stamp(EVALUATION),
        "flames": __version__,
        "run": result.run,
        "strategy": result.strategy,
        "round": result.round,
        "compare": result.compare,
        "clients": [row.as_json() for row in result.clients],
        "server": [row.as_json() for row in result.server],
    }


def _table_header(compare: str | None) -> list[str]:
    columns = [f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd", "n")]
    header = ["model", "modality", "organ", "n", *columns]
    return [*header, *(f"{compare}_{column}" for column in columns), "dice_gain"] if compare else header


def _table_row(row: Row, header: Sequence[str]) -> list[object]:
    """The cells of `row`; empty ones where the other run has no model to compare with."""

    def flat(metrics: dict[str, Any]) -> list[object]:
        return [value for m in METRICS for value in (metrics[m].mean, metrics[m].sd, metrics[m].n)]

    start: list[object] = [row.label, row.modality, row.organ, row.n, *flat(row.metrics)]
    if row.compared and row.dice_gain:
        return [*start, *flat(row.compared), row.dice_gain.mean]
    return [*start, *[""] * (len(header) - len(start))]


def _overlay_row(segmenter: Segmenter, subject: Subject, scores: Sequence[Score]) -> OverlayRow:
    """Best, median and worst case by Dice."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index].metrics["dice"], index))
    picks = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    panels = []
    for (name, index), predicted in zip(
        picks.items(), segmenter.masks(subject.weights, subject.data, list(picks.values())), strict=True
    ):
        image, truth = subject.data.example(index)
        caption = f"{name}: {scores[index].case}, Dice {scores[index].metrics['dice']:.2f}"
        panels.append(OverlayPanel(image, truth, predicted, caption))
    who = "server model" if subject.split == "server_test" else "client"
    return OverlayRow(f"{who} {subject.label} ({subject.modality}, {len(scores)} cases)", panels)


def learning_curves(records: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """{client: (rounds done, validation Dice of the model it received then)}."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for client in record["clients"]:
            if "received_val_dice" in client:
                curves.setdefault(client["client"], []).append(
                    (record["round"] - 1, client["received_val_dice"])
                )
    return curves
