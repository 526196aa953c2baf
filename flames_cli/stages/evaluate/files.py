"""Files of `flames evaluate`: metrics per case, tables and a summary."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.scores.intervals import DRAWS, LEVEL
from flames_cli.core.scores.summaries import METRICS
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.lesion_rows import SIZES, FalsePositives, LesionRow, SizeScores
from flames_cli.stages.evaluate.parts import Scored, pairs_seeds
from flames_cli.stages.evaluate.pictures import overlay_name
from flames_cli.stages.evaluate.rows import BOUNDED, Row
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score
from flames_cli.stages.rounds import ChosenRound
from flames_cli.store.files.atomic import write_csv, write_json
from flames_cli.store.schema import EVALUATION, read_json, stamp

CASE_COLUMNS = (
    *("run", "client", "modality", "dataset", "organ", "site", "patient", "lesion"),
    *("split", "case", "metric", "value", "seed"),
)
SPLIT = CASE_COLUMNS.index("split")

TABLE_OF = {"client_test": "clients", "server_test": "server"}
"""Name of the table in summary.json and of its CSV, by split."""
HEALTHY = ("with_prediction", "false_area")
"""Columns of the table by lesion size that are filled for images without a lesion only."""
PARTS = ("mean", "sd", "n")
"""Columns of each metric in the CSV of a table."""
LESIONS_OF = {split: f"lesions_{table}" for split, table in TABLE_OF.items()}
"""Name of the table by lesion size in summary.json, by split; its CSV has a hyphen."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Tables of one run for the requested splits, compared with another run if one was named."""

    run: str
    strategy: str
    round: int
    compare: str | None
    models: dict[str, str]
    """SHA-256 of the checkpoint's index by run; shows whether earlier tables belong to the same models."""
    tables: dict[str, list[Row]]
    """Rows by split."""
    folder: Path
    untested: dict[str, str] = field(default_factory=dict)
    """Clients and modalities that are in no table, each with its reason."""
    lesions: dict[str, list[LesionRow]] = field(default_factory=dict)
    """Rows of the table by lesion size, by split."""
    small: dict[str, SmallLesionRule] = field(default_factory=dict)
    """Rule that decides which images have small lesions, by data set."""
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    """Unit that counts as a patient, by split and data set."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the run; several if it is a family."""
    compared_seeds: tuple[int, ...] = ()
    """Seeds of the other run."""
    privacy: dict[str, Any] | None = None
    """Privacy cost of the run's models, if they are private."""
    chosen: dict[str, ChosenRound] = field(default_factory=dict)
    """The round of each run, and why it was chosen."""
    stale_statistics: tuple[str, ...] = ()
    """Runs whose models have the statistics of BatchNorm of their blend, not of their own weights."""
    pictures_of: str = ""
    """Run that the pictures show, if it is one of several; empty: the only one, or no pictures."""
    members: tuple[str, ...] = ()
    """Names of the runs: that of `run`, or those of its family."""

    @property
    def seed(self) -> int:
        """Seed of the intervals' draws: the run's own, or the first one."""
        return self.seeds[0]

    @property
    def same_seeds(self) -> bool:
        """True if gains are paired by seed."""
        return pairs_seeds(self.seeds, self.compared_seeds)

    @property
    def clients(self) -> list[Row]:
        """Rows of every client's personalised model on its own test set."""
        return self.tables.get("client_test", [])

    @property
    def server(self) -> list[Row]:
        """Rows of every server model on the unseen patients of its modality, by organ; unseen sites are
        separate rows."""
        return self.tables.get("server_test", [])


def case_rows(result: Evaluation, scored: Sequence[Scored]) -> list[tuple[object, ...]]:
    """Return the lines of cases.csv: both runs' scores of every model, each once however often it is
    compared."""
    rows: dict[tuple[object, ...], None] = {}
    for one in scored:
        for seed, scores in zip(result.seeds, one.scores, strict=True):
            rows |= dict.fromkeys(_metric_rows(result.run, one.model.label, one.model, scores, seed))
        if result.compare and one.compared is not None:
            counterpart = one.compared_label
            for seed, scores in zip(result.compared_seeds, one.compared, strict=True):
                rows |= dict.fromkeys(_metric_rows(result.compare, counterpart, one.model, scores, seed))
    return list(rows)


def _metric_rows(
    run: str, label: str, model: ModelUnderTest, scores: Sequence[Score], seed: int
) -> Iterator[tuple[object, ...]]:
    for score in scores:
        case_facts = (run, label, model.modality, score.dataset, score.organ, score.site, score.patient)
        for metric, value in score.values.items():
            yield (*case_facts, score.lesion, model.split, score.case, metric, value, seed)


def write_evaluation(result: Evaluation, cases: Sequence[Sequence[object]]) -> None:
    """Write cases.csv (`cases`, from `case_rows`), the tables and summary.json.

    A split that was not requested keeps the earlier tables if they belong to the same models. Tables of other
    models are removed, and so are the curves and the pictures of a split that is evaluated again.
    """
    folder = result.folder
    earlier = _earlier_tables(result)
    # Remove the summary first: if this call is interrupted, no summary names tables that are gone.
    for name in ("summary.json", "rounds.png"):
        (folder / name).unlink(missing_ok=True)
    for split, table in TABLE_OF.items():
        if table not in earlier:
            for stale in (f"{table}.csv", _lesion_csv(split), overlay_name(split)):
                (folder / stale).unlink(missing_ok=True)
    header = _table_header(result.compare)
    for split, rows in result.tables.items():
        write_csv(
            folder / f"{TABLE_OF[split]}.csv",
            header,
            [_table_row(row, header, result.compare) for row in rows],
        )
    header = _lesion_header(result.compare)
    for split, by_size in result.lesions.items():
        lines = [line for row in by_size for line in _lesion_lines(row, header)]
        write_csv(folder / _lesion_csv(split), header, lines)
    kept = _earlier_cases(folder / "cases.csv", set(TABLE_OF) - set(result.tables)) if earlier else []
    write_csv(folder / "cases.csv", CASE_COLUMNS, [*kept, *cases])
    write_json(folder / "summary.json", {**summary_json(result), **earlier})


def _earlier_tables(result: Evaluation) -> dict[str, Any]:
    """Return the entries of summary.json for the splits that this call leaves out, if they belong to the same
    models."""
    try:
        before = read_json(result.folder / "summary.json", EVALUATION)
    except FlamesError:  # none yet, or a damaged one, which is replaced
        return {}
    same = {**stamp(EVALUATION), "models": result.models}
    if any(before.get(key) != value for key, value in same.items()):
        return {}
    splits = [split for split in TABLE_OF if split not in result.tables]
    missing = [name[split] for name in (TABLE_OF, LESIONS_OF) for split in splits]
    kept = {table: before[table] for table in missing if before.get(table)}
    rules = {**before.get("small", {}), **_small_json(result)}
    return {**kept, "small": dict(sorted(rules.items()))} if kept else {}


def _earlier_cases(path: Path, splits: set[str]) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) > SPLIT and row[SPLIT] in splits]


def summary_json(result: Evaluation) -> dict[str, Any]:
    """Return the content of summary.json; the table of a split that was not requested is empty."""
    return {
        **stamp(EVALUATION),
        "flames": __version__,
        "run": result.run,
        "strategy": result.strategy,
        "round": result.round,
        "round_choice": {run: chosen.as_json() for run, chosen in result.chosen.items()},
        "compare": result.compare,
        "stale_statistics": list(result.stale_statistics),
        "models": result.models,
        "clients": [row.as_json() for row in result.clients],
        "server": [row.as_json() for row in result.server],
        **{
            table: [row.as_json() for row in result.lesions.get(split, [])]
            for split, table in LESIONS_OF.items()
        },
        "small": _small_json(result),
        "interval": {"level": LEVEL, "draws": DRAWS, "seed": result.seed},
        "seeds": list(result.seeds),
        "compared_seeds": list(result.compared_seeds),
        "paired_by": _paired_by(result),
        "untested": result.untested,
        **({"privacy": result.privacy} if result.privacy else {}),
    }


def _paired_by(result: Evaluation) -> str | None:
    if not result.compare:
        return None
    return "seed and case" if result.same_seeds else "case"


def _small_json(result: Evaluation) -> dict[str, str]:
    return {dataset: str(rule) for dataset, rule in sorted(result.small.items())}


def _table_header(compare: str | None) -> list[str]:
    columns = [f"{metric}_{part}" for metric in METRICS for part in PARTS]
    header = ["model", "modality", "organ", "n", *columns]
    bounds = [f"{metric}_{limit}" for metric in BOUNDED for limit in ("low", "high")]
    if compare:
        header += [*(f"{compare}_{column}" for column in columns), "dice_gain"]
        bounds += ["dice_gain_low", "dice_gain_high"]
    return [*header, "patients", "seeds", *bounds]


def _table_row(row: Row, header: Sequence[str], compare: str | None) -> list[object]:
    """Return the cells of `row`; cells of the other run are empty if it has no model to compare with."""
    cells: dict[str, object] = {
        "model": row.label,
        "modality": row.modality,
        "organ": row.organ,
        "n": row.n,
        "patients": row.intervals["dice"].n_patients,
        "seeds": len(row.by_seed),
    }
    intervals = dict(row.intervals)
    for prefix, metrics in (("", row.metrics), (f"{compare}_", row.compared or {})):
        for metric, value in metrics.items():
            cells |= {f"{prefix}{metric}_{part}": getattr(value, part) for part in PARTS}
    if row.dice_gain and row.gain_interval:
        cells["dice_gain"] = row.dice_gain.mean
        intervals["dice_gain"] = row.gain_interval
    for name, interval in intervals.items():
        cells |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return [cells.get(column, "") for column in header]


def _lesion_csv(split: str) -> str:
    return f"{LESIONS_OF[split].replace('_', '-')}.csv"


def _lesion_header(compare: str | None) -> list[str]:
    counts = ("lesions", "lesions_found", "lesions_predicted", "lesions_right", "recall", "precision")
    columns = ["dice_mean", "dice_sd", *counts, *HEALTHY]
    header = ["model", "modality", "organ", "lesion", "n", "patients", *columns]
    gains = ["dice_gain", "dice_gain_low", "dice_gain_high"]
    return [*header, *(f"{compare}_{column}" for column in columns), *gains] if compare else header


def _lesion_lines(row: LesionRow, header: Sequence[str]) -> Iterator[list[object]]:
    """Return a line of the cases without a lesion, if there are any, and one line per size.

    Cells of the other run are empty if it has no model to compare with.
    """
    if row.healthy:
        yield _healthy_line(row, row.healthy, header)
    for size in SIZES:
        own = row.sizes[size]
        line = [row.label, row.modality, row.organ, size, own.dice.n, own.n_patients, *_lesion_cells(own)]
        if row.compared and row.gains:
            gain = row.gains[size]
            line += [*_lesion_cells(row.compared[size]), gain.mean, gain.low, gain.high]
        yield [*line, *[""] * (len(header) - len(line))]


def _healthy_line(row: LesionRow, healthy: FalsePositives, header: Sequence[str]) -> list[object]:
    own = healthy.scores
    line: list[object] = [row.label, row.modality, row.organ, "none", healthy.n, own.n_patients]
    line += _lesion_cells(own, healthy)
    if other := row.compared_healthy:
        line += _lesion_cells(other.scores, other)
    return [*line, *[""] * (len(header) - len(line))]


def _lesion_cells(scores: SizeScores, healthy: FalsePositives | None = None) -> list[object]:
    counts = scores.lesions
    found = (counts.n, counts.found, counts.n_predicted, counts.n_right, counts.recall(), counts.precision())
    false = (healthy.n_marked, healthy.area) if healthy else ("", "")
    return [scores.dice.mean, scores.dice.sd, *found, *false]
