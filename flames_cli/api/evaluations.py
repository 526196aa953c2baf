"""Evaluations and comparisons of runs."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.api.options import PathLike, find_workspace, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import CompareConfig, EvaluateConfig
from flames_cli.errors import MissingArtifact
from flames_cli.stages.compare.files import records
from flames_cli.stages.compare.notes import notes_of
from flames_cli.stages.compare.stage import compare as compare_stage
from flames_cli.stages.evaluate.stage import evaluate as evaluate_stage
from flames_cli.store.evaluations import (
    CASES,
    OPEN,
    SUMMARY,
    VOLUMES,
    CaseScore,
    EvaluatedRun,
    EvaluationFile,
    VolumeScore,
    read_case_scores,
    read_evaluation_file,
    read_volume_scores,
)
from flames_cli.store.workspace import evaluation_folder, list_evaluations

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelScore:
    """Mean Dice of one model on its test patients."""

    model: str
    """Name of the client, or label of the server model."""
    modality: str
    organ: str
    unseen_site: str
    """The site, or what else no client of the model has; else empty."""
    protocol: str
    """`volumes`: complete volumes. `images`: still images, and slices of incomplete volumes."""
    n: int
    """Number of volumes or images."""
    patients: int
    dice: float | None
    """Mean over them, and over seeds if there are several."""
    dice_sd: float | None
    """Standard deviation over seeds; with one seed over volumes or images."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of the models of a run, or of a family, on patients that no other stage has used."""

    name: str
    folder: Path
    """Folder with all tables, masks and pictures."""
    run: str
    """Name of the run, or of the family."""
    runs: list[EvaluatedRun] = field(repr=False)
    """The run, or the runs of the family, each with its round and why it was chosen."""
    clients: list[ModelScore] = field(repr=False)
    """Every client's model on the test set of its own client; empty if clients were not tested."""
    server: list[ModelScore] = field(repr=False)
    """Every server model on the unseen patients of its modality; empty if it was not tested."""
    cases: list[Record] = field(repr=False)
    """One record for each model, run and image, with the columns of cases.csv."""
    volumes: list[Record] = field(repr=False)
    """One record for each model, run and complete volume, with the columns of volumes.csv."""
    tables: dict[str, list[Record]] = field(repr=False)
    """Lines of all tables by name, such as summary-clients; each table is also a CSV in `folder`."""
    notes: list[str] = field(repr=False)
    """Remarks, such as models that are in no table, each with its reason."""

    def __str__(self) -> str:
        """Return one line for each model: its name, its patients and its mean Dice."""
        lines = [f"{self.run}: mean Dice"]
        for title, rows in (("client", self.clients), ("server", self.server)):
            for row in rows:
                unseen = f", {row.unseen_site}" if row.unseen_site else ""
                dice = "none" if row.dice is None else f"{row.dice:.3f}"
                which = f"{title} {row.model} ({row.modality}, {row.organ}{unseen})"
                n = f"{row.protocol} {row.n}, patients {row.patients}"
                lines.append(f"  {dice}  {which}: {n}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs on the same test cases, with paired differences to the first."""

    name: str
    folder: Path
    runs: list[str]
    """Names of the runs; the first is the reference."""
    metrics: list[str]
    means: list[Record] = field(repr=False)
    """One record for each metric, line of the tables and run, with the columns of means.csv."""
    differences: list[Record] = field(repr=False)
    """Paired differences with their intervals and tests, with the columns of differences.csv."""
    fairness: list[Record] = field(repr=False)
    """Spread between clients, with the columns of fairness.csv."""
    notes: list[str] = field(repr=False)


@takes(EvaluateConfig, "detail")
def evaluate(
    config: EvaluateConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Evaluation:
    """Score the models of a run on the test sets of its clients and of the server.

    Args:
        config: options as an `EvaluateConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: an option is wrong, or a file is damaged.

    Examples:
        >>> found = flames.evaluate(run="flames", overlays=False, workspace=workspace)
        >>> [(score.model, score.patients) for score in found.server]
        [('MRI', 2), ('US', 2)]
        >>> sorted({case["model"] for case in found.cases if case["split"] == "client_test"})
        ['brats-1', 'brats-2', 'busi']
    """
    chosen = make_config(EvaluateConfig, config, options)
    with stage_progress(progress) as report:
        made = evaluate_stage(chosen, report)
    return _read(made.folder, [f"the earlier evaluation is called {made.aside} now"] if made.aside else [])


def open_evaluation(name: str, workspace: PathLike | None = None) -> Evaluation:
    """Return an evaluation of a workspace.

    Args:
        name: its name, by default that of the run.
        workspace: its folder; None: that of FLAMES_WORKSPACE, or `flames-workspace`.

    Raises:
        MissingArtifact: there is no such evaluation.
        FlamesError: a file is damaged.

    Examples:
        >>> found = flames.open_evaluation("flames", workspace)
        >>> found.run, found.runs[0].strategy
        ('flames', 'flames')
    """
    folder = find_workspace(workspace)
    path = evaluation_folder(folder, name)
    if not (path / SUMMARY).is_file():
        known = ", ".join(list_evaluations(folder)) or "none"
        raise MissingArtifact(
            f"no evaluation '{name}' in {path.parent} (existing: {known}); make it with `flames evaluate`"
        )
    return _read(path)


@takes(CompareConfig, "detail")
def compare(
    config: CompareConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Comparison:
    """Compare runs on the test cases that all have; a run without an evaluation is evaluated first.

    Args:
        config: options as a `CompareConfig`, or the path of a TOML file; the keywords replace them.
        progress: function that receives events.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: an option is wrong, no run is named, or the runs have different test patients.

    Examples:
        >>> made = flames.compare(runs=["flames", "seeds"], overlays=False, workspace=workspace)
        >>> [line["run"] for line in made.means if line["kind"] == "all" and line["metric"] == "dice"]
        ['flames', 'seeds', 'flames', 'seeds']
    """
    chosen = make_config(CompareConfig, config, options)
    with stage_progress(progress) as report:
        made = compare_stage(chosen, report)
    return Comparison(
        name=made.name,
        folder=made.folder,
        runs=made.runs,
        metrics=list(made.metrics),
        means=records(made, "means"),
        differences=records(made, "differences"),
        fairness=records(made, "fairness"),
        notes=[*notes_of(made)],
    )


def _read(folder: Path, notes: Iterable[str] = ()) -> Evaluation:
    content = read_evaluation_file(folder / SUMMARY)
    tables: dict[str, list[Record]] = {name: [*map(dict, lines)] for name, lines in content.tables.items()}
    return Evaluation(
        name=content.name,
        folder=folder,
        run=content.run,
        runs=list(content.runs),
        clients=_scores(tables.get("summary-clients", [])),
        server=_scores(tables.get("summary-server", [])),
        cases=[_flat(one) for one in read_case_scores(folder / CASES)],
        volumes=[_flat(one) for one in read_volume_scores(folder / VOLUMES)],
        tables=tables,
        notes=[*notes, *_notes(content)],
    )


def _scores(lines: Iterable[Mapping[str, Any]]) -> list[ModelScore]:
    names = ("model", "modality", "organ", "unseen_site", "protocol", "n", "patients", "dice_sd")
    return [ModelScore(dice=line["dice_mean"], **{name: line[name] for name in names}) for line in lines]


def _flat(score: CaseScore | VolumeScore) -> Record:
    """Return a line of a CSV by column."""
    cells: Record = asdict(score)
    for field_, start in OPEN.items():
        cells |= {f"{start}{name}": value for name, value in cells.pop(field_).items()}
    return cells


def _notes(content: EvaluationFile) -> list[str]:
    stale = [run.name for run in content.runs if run.stale_statistics]
    return [
        *(f"{name} is in no table: {why}" for name, why in content.untested.items()),
        *(f"{name} has incomplete volumes, which are not scored as volumes" for name in content.incomplete),
        *(f"{name}: BatchNorm's statistics of this round are those of the blend" for name in stale),
    ]
