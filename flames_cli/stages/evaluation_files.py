"""What `flames evaluate` leaves behind: metrics a case, tables, a summary and pictures."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.errors import FlamesError
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.scoring import METRICS, Row, Score, Subject
from flames_cli.store.atomic import write_csv, write_json
from flames_cli.store.figures import OverlayPanel, OverlayRow, draw_overlays, draw_rounds
from flames_cli.store.manifest import read_json
from flames_cli.store.schema import EVALUATION, stamp

CASE_COLUMNS = (
    *("run", "client", "modality", "dataset", "organ", "site"),
    *("split", "case", "metric", "value"),
)
SPLIT = CASE_COLUMNS.index("split")

TABLE_OF = {"client_test": "clients", "server_test": "server"}
"""By split: the table's name in summary.json and of its CSV."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The tables of one run, beside another's where one was named; of the splits that were asked for."""

    run: str
    strategy: str
    round: int
    compare: str | None
    models: dict[str, str]
    """By run: SHA-256 of its checkpoint's index; tells whether earlier tables are of the same models."""
    tables: dict[str, list[Row]]
    """By split."""
    folder: Path
    untested: dict[str, str] = field(default_factory=dict)
    """Clients and modalities that are in no table, each with its reason."""

    @property
    def clients(self) -> list[Row]:
        """Every client's own test set with its personalised model."""
        return self.tables.get("client_test", [])

    @property
    def server(self) -> list[Row]:
        """Every server model on the unseen patients of its modality, by organ; unseen sites apart."""
        return self.tables.get("server_test", [])


def write_evaluation(result: Evaluation, case_rows: Sequence[Sequence[object]]) -> None:
    """Write cases.csv, the tables and summary.json.

    A split that was not asked for keeps what an earlier call said of the same models; what it said of others
    is removed.
    """
    folder = result.folder
    earlier = _earlier_tables(result)
    for split, table in TABLE_OF.items():
        if split not in result.tables and table not in earlier:
            for stale in (folder / f"{table}.csv", folder / overlay_name(split)):
                stale.unlink(missing_ok=True)
    header = _table_header(result.compare)
    for split, rows in result.tables.items():
        write_csv(folder / f"{TABLE_OF[split]}.csv", header, [_table_row(row, header) for row in rows])
    kept = _earlier_cases(folder / "cases.csv", set(TABLE_OF) - set(result.tables)) if earlier else []
    write_csv(folder / "cases.csv", CASE_COLUMNS, [*kept, *case_rows])
    write_json(folder / "summary.json", {**summary_json(result), **earlier})


def _earlier_tables(result: Evaluation) -> dict[str, Any]:
    """The tables of summary.json that this call does not make anew, where they are of the same models."""
    try:
        before = read_json(result.folder / "summary.json", EVALUATION.name)
    except FlamesError:  # none yet, or a damaged one, which is replaced
        return {}
    same = {**stamp(EVALUATION), "models": result.models}
    if any(before.get(key) != value for key, value in same.items()):
        return {}
    missing = [table for split, table in TABLE_OF.items() if split not in result.tables]
    return {table: before[table] for table in missing if before.get(table)}


def _earlier_cases(path: Path, splits: set[str]) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) > SPLIT and row[SPLIT] in splits]


def summary_json(result: Evaluation) -> dict[str, Any]:
    """What summary.json holds; an empty table is of a split that was not asked for."""
    return {
        **stamp(EVALUATION),
        "flames": __version__,
        "run": result.run,
        "strategy": result.strategy,
        "round": result.round,
        "compare": result.compare,
        "models": result.models,
        "clients": [row.as_json() for row in result.clients],
        "server": [row.as_json() for row in result.server],
        "untested": result.untested,
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


def overlay_name(split: str) -> str:
    """The picture of a split."""
    return f"overlays-{split.removesuffix('_test')}.png"


def draw_evaluation(
    folder: Path,
    segmenter: Segmenter,
    scored: Sequence[tuple[Subject, Sequence[Score]]],
    rounds: Sequence[dict[str, Any]],
) -> None:
    """Draw the best, median and worst case of every model, a picture a split, and the learning curves."""
    for split in TABLE_OF:
        chosen = [(subject, scores) for subject, scores in scored if subject.split == split and scores]
        if chosen:
            draw_overlays(folder / overlay_name(split), [_overlay_row(segmenter, *pair) for pair in chosen])
    if series := learning_curves(rounds):
        draw_rounds(folder / "rounds.png", series)


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
    where = f", unseen site {subject.unseen}" if subject.unseen else ""
    return OverlayRow(f"{who} {subject.label} ({subject.modality}, {len(scores)} cases{where})", panels)


def learning_curves(records: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """{client: (rounds done, validation Dice of the model it received then)}."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for client in record["clients"]:
            if client.get("received_val_dice") is not None:
                curves.setdefault(client["client"], []).append(
                    (record["round"] - 1, client["received_val_dice"])
                )
    return curves
