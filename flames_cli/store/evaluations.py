"""Files of an evaluation: scores of every image and volume as CSV, and evaluation.json with how they were
made."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from flames_cli.core.imaging.small_lesion_rule import Lesion
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.atomic import finite, reason_of, write_csv, write_json
from flames_cli.store.schema import EVALUATION, MADE_BY, check_stamp, read_json, stamp

CASES, VOLUMES, SUMMARY = "cases.csv", "volumes.csv", "evaluation.json"
"""Names of the files in the folder of an evaluation."""
UNSEEN_MODALITY, UNSEEN_ORGAN = "unseen modality", "unseen organ"
"""Values in place of an unseen site: the modality of the images is none of the model's clients, or their
organ is none of the clients of their modality."""
UNSEEN_KINDS = ("", "unseen sites", UNSEEN_ORGAN, UNSEEN_MODALITY)
"""Kinds of patients; those of different kinds are never pooled."""
EXTRA = "extra_"
"""Start of the name of a column that the user's manifest has and FLAMES does not."""
METRIC = "metric_"
"""Start of the name of a column of a plug-in's metric."""
METRIC_FACTS = "metrics"
"""Option of evaluation.json with the metrics of plug-ins: package and version, direction and unit by name."""
PLUGINS = "plugins"
"""Option of evaluation.json with the plug-ins of the runs, such as `strategies/own flames-example 0.1`."""
OPEN = {"extra": EXTRA, "metrics": METRIC}
"""Fields of a score that are several columns, or none, each with the start of their names."""


def unseen_kind(unseen_site: str) -> str:
    """Return the one of UNSEEN_KINDS that an entry of the column `unseen_site` is."""
    return unseen_site if unseen_site in UNSEEN_KINDS else "unseen sites"


def name_unseen(name: str, unseen_site: str) -> str:
    """Return `name` with that which is unseen: `liver, C5 (unseen)` or `liver (unseen modality)`."""
    if unseen_kind(unseen_site) == "unseen sites":
        return f"{name}, {unseen_site} (unseen)"
    return f"{name} ({unseen_site})" if unseen_site else name


def name_images(organ: str, modality: str, unseen_site: str) -> str:
    """Return the name of images in a table: organ and modality, with that which is unseen.

    The organ of a line of an unseen site names the site already.
    """
    if unseen_kind(unseen_site) == "unseen sites":
        return organ
    return name_unseen(f"{organ} {modality}".rstrip(), unseen_site)


def name_person(collection: str, dataset: str, patient: str) -> str:
    """Return the name of a patient that is unique over all data sets; `collection` is empty if no other data
    set has the same patients."""
    return f"{collection or dataset}/{patient}"


@dataclass(frozen=True, slots=True)
class _Scored:
    """Model and patient of one score: the first columns of both tables."""

    run: str
    seed: int
    fold: int | None
    """Fold of the run's partition, from 1; None without folds."""
    split: str
    """client_test or server_test."""
    model: str
    """Name of the client, or label of the server model."""
    modality: str
    dataset: str
    collection: str
    """Name that data sets with common patients share; empty: the data set's own."""
    organ: str
    site: str
    unseen_site: str
    """The site, if no client has trained on cases from it; UNSEEN_MODALITY or UNSEEN_ORGAN, if no client of
    the model has it; else empty."""
    patient: str
    """The patient, or the first of several patients whose images are near copies (`CaseInfo.split_unit`)."""
    extra: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Cells of the columns that the user kept from a manifest, by column."""
    metrics: Mapping[str, float | None] = field(default_factory=dict, kw_only=True)
    """Metrics of plug-ins by name: infinite for a missed case, None where a metric is not defined."""

    @property
    def person(self) -> str:
        """The patient, by a name that is unique over all data sets."""
        return name_person(self.collection, self.dataset, self.patient)


@dataclass(frozen=True, slots=True)
class CaseScore(_Scored):
    """Scores of one model on one image; a line of cases.csv.

    Distances and counts of lesions are None for slices that are not selected; distances in mm also where the
    spacing is unknown. A distance is infinite if one of both masks is empty; if both are, `hausdorff_px` is
    infinite too, and the others are 0.
    """

    case: str
    volume: str
    """Name of the volume that the slice belongs to; empty for a still image."""
    selected: bool
    """True for a still image and for a slice of the `slices` protocol."""
    lesion: Lesion
    """Size of its lesions by the data set's rule: small, large, or none if its true mask is empty."""
    tp: int
    fp: int
    fn: int
    tn: int
    iou: float
    dice: float
    pixel_accuracy: float
    majority_accuracy: float
    hausdorff_px: float | None
    """Hausdorff distance of all foreground pixels in pixels of the stored square, as in the paper."""
    hd95_px: float | None
    """95th percentile of the distances between the surfaces, in pixels of the source image."""
    hd95_mm: float | None
    assd_px: float | None
    """Average symmetric surface distance, in pixels of the source image."""
    assd_mm: float | None
    diagonal_px: float | None
    """Diagonal of the source image, the distance of a missed case where it is penalised."""
    diagonal_mm: float | None
    lesions: int | None
    """Number of lesions in the true mask."""
    lesions_predicted: int | None
    lesions_matched: int | None
    """Number of pairs of a lesion and a predicted one, each in at most one pair."""


@dataclass(frozen=True, slots=True)
class VolumeScore(_Scored):
    """Scores of one model on one complete volume; a line of volumes.csv.

    A ratio whose denominator is zero is None: sensitivity without a true voxel, precision without a predicted
    one.
    """

    volume: str
    slices: int
    tp: int
    fp: int
    fn: int
    tn: int
    dice: float
    sensitivity: float | None
    precision: float | None
    volume_ml: float | None
    """True volume of the tumour, in ml; like all numbers in ml and mm, None if the spacing is unknown."""
    predicted_ml: float | None
    volume_error_ml: float | None
    """Predicted volume minus true volume, in ml."""
    hd95_mm: float | None
    assd_mm: float | None
    nsd_2mm: float | None
    """Normalised surface Dice at a tolerance of 2 mm, in [0, 1]."""
    diagonal_mm: float | None
    """Diagonal of the volume, the distance of a missed case where it is penalised."""
    lesions: int | None
    lesions_predicted: int | None
    lesions_matched: int | None

    @property
    def abs_volume_error_ml(self) -> float | None:
        """Size of the volume error, in ml."""
        return None if self.volume_error_ml is None else abs(self.volume_error_ml)


FROM_FILE = "file"
"""Entry `asked` of an evaluation of weights that no run of this workspace has made."""


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """A run whose models were evaluated, and the round of these models; or a model from a file."""

    name: str
    strategy: str
    seed: int
    fold: int | None
    round: int
    last_round: int
    """Last stored round of the run."""
    asked: str
    """Rule of the choice: best, best-small, last, or the number of a round; FROM_FILE: there is no run, and
    `strategy` is the architecture."""
    why: str
    """Reason for the round, in words."""
    partition: str
    partition_sha256: str
    checkpoint: str
    """SHA-256 of the checkpoint's index, which contains the checksums of its files."""
    validation_dice: float | None = None
    """Pooled validation Dice of the round; None: not known."""
    stale_statistics: bool = False
    """True if its models have the statistics of BatchNorm of their blend, not of their own weights."""

    @property
    def is_from_file(self) -> bool:
        """True if it is a model from a file, which has no rounds."""
        return self.asked == FROM_FILE

    @property
    def models(self) -> tuple[str, int, str, str]:
        """Facts that decide its scores: the run, the round, and the checksums of its data and its models.

        The partition may have another name by now, and the round another reason.
        """
        return self.name, self.round, self.partition_sha256, self.checkpoint


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """Content of evaluation.json: what was evaluated and how, with all tables."""

    name: str
    """Name of the evaluation, and of its folder."""
    run: str
    """Name of the run, or of its family."""
    runs: tuple[EvaluatedRun, ...]
    """The run, or the finished runs of the family by fold and seed; not empty."""
    options: Mapping[str, Any]
    """Options that change the scores, such as the splits."""
    small: Mapping[str, str]
    """Rule that decides which images have small lesions, by data set."""
    units: Mapping[str, Mapping[str, str]]
    """Unit that counts as a patient (`core.patient_units`), by split and data set."""
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    """Lines of the tables by name; each table is also NAME.csv, with the same columns."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """Clients, modalities and runs that are in no table, each with its reason."""
    incomplete: tuple[str, ...] = ()
    """Data sets with volumes of which slices are missing, so they have no line in volumes.csv."""
    fairness: Mapping[str, Any] | None = None
    """Spread of the clients' mean Dice; None with fewer than two clients."""
    privacy: Mapping[str, Any] | None = None
    """Privacy cost of the models, if they are private."""

    @property
    def is_family(self) -> bool:
        """True if the name is that of a family, even if only one of its runs is finished."""
        return self.run != self.runs[0].name


RowT = TypeVar("RowT")


def write_case_scores(path: Path, scores: Sequence[CaseScore]) -> None:
    """Write cases.csv, atomically: a line per model, run and image."""
    write_rows(path, CaseScore, scores)


def write_volume_scores(path: Path, scores: Sequence[VolumeScore]) -> None:
    """Write volumes.csv, atomically: a line per model, run and complete volume."""
    write_rows(path, VolumeScore, scores)


def read_case_scores(path: Path) -> list[CaseScore]:
    """Return the lines of a cases.csv.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it cannot be read, or has other columns or cells.
    """
    return read_rows(path, CaseScore)


def read_volume_scores(path: Path) -> list[VolumeScore]:
    """Return the lines of a volumes.csv. Raises as `read_case_scores`."""
    return read_rows(path, VolumeScore)


def evaluation_json(content: EvaluationFile) -> dict[str, Any]:
    """Return the content of evaluation.json; a number that is not finite becomes null."""
    return {**stamp(EVALUATION), **finite(asdict(content))}


def write_evaluation_file(path: Path, content: EvaluationFile) -> None:
    """Write evaluation.json, atomically."""
    write_json(path, evaluation_json(content))


def read_evaluation_file(path: Path) -> EvaluationFile:
    """Return the content of an evaluation.json.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it cannot be read, or has another version or other entries.
    """
    found = read_json(path, EVALUATION)
    check_stamp(found, EVALUATION, path)
    kept = {name: value for name, value in found.items() if name not in stamp(EVALUATION)}
    try:
        kept["runs"] = tuple(EvaluatedRun(**run) for run in kept["runs"])
        kept["incomplete"] = tuple(kept["incomplete"])
        content = EvaluationFile(**kept)
        if not content.runs:
            raise ValueError("it names no run")
    except (TypeError, KeyError, ValueError) as error:
        command = MADE_BY[EVALUATION.name]
        raise FlamesError(f"{path} has wrong entries ({error}); make it again with `{command}`") from error
    return content


def _columns(kind: type[Any]) -> dict[str, Any]:
    """Return the type of each column except those of the fields OPEN."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind) if one.name not in OPEN}


def _open_fields(kind: type[Any]) -> dict[str, str]:
    """Return those fields of OPEN that the dataclass has."""
    names = {one.name for one in fields(kind)}
    return {name: start for name, start in OPEN.items() if name in names}


def write_rows(path: Path, kind: type[RowT], rows: Sequence[RowT]) -> None:
    """Write a CSV, atomically: a line per row, with a column for each field of the dataclass `kind`, and one
    for each name in the rows' fields OPEN, if they have them."""
    columns = _columns(kind)
    more = [
        (field_, name, f"{start}{name}")
        for field_, start in _open_fields(kind).items()
        for name in sorted({name for row in rows for name in getattr(row, field_)})
    ]
    lines = [
        [
            *(_cell(getattr(row, name)) for name in columns),
            *(_cell(getattr(row, field_).get(name)) for field_, name, _ in more),
        ]
        for row in rows
    ]
    write_csv(path, [*columns, *(title for *_, title in more)], lines)


def _cell(value: Any) -> Any:
    """Return what the CSV has for `value`: an empty cell for None, 1 or 0 for a bool."""
    return "" if value is None else int(value) if isinstance(value, bool) else value


def read_rows(path: Path, kind: type[RowT]) -> list[RowT]:
    """Return the lines of a CSV that `write_rows` wrote.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it cannot be read, or has other columns or cells.
    """
    command = MADE_BY[EVALUATION.name]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = _columns(kind)
            _check_header(reader.fieldnames or (), list(columns))
            more = _open_fields(kind)
            return [kind(**_parse_row(row, columns, more)) for row in reader]
    except FileNotFoundError as error:
        raise MissingArtifact(f"{path} does not exist; make it with `{command}`") from error
    except OSError as error:
        raise FlamesError(
            f"{path} cannot be read: {reason_of(error)}; check the disk and its rights"
        ) from error
    except (ValueError, csv.Error) as error:
        raise FlamesError(
            f"{path} is not a table of this release ({error}); make it again with `{command}`"
        ) from error


def _check_header(found: Iterable[str], expected: Sequence[str]) -> None:
    own = [name for name in found if not name.startswith(tuple(OPEN.values()))]
    if own != expected:
        missing = [name for name in expected if name not in own]
        raise ValueError(f"column {missing[0]} is missing" if missing else "its columns are others")


def _parse_row(
    row: Mapping[str | Any, Any], columns: Mapping[str, Any], more: Mapping[str, str]
) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError("a line has more or fewer cells than the header")
    cells = {name: _parse(row[name], type_, name) for name, type_ in columns.items()}
    for field_, start in more.items():
        type_ = str if field_ == "extra" else float | None
        cells[field_] = {
            name.removeprefix(start): _parse(cell, type_, name)
            for name, cell in row.items()
            if name.startswith(start)
        }
    return cells


def _parse(cell: str, type_: Any, column: str) -> Any:
    """Return the value of a cell; the type is one that `_cell` writes."""
    if isinstance(type_, UnionType):
        return _parse(cell, get_args(type_)[0], column) if cell else None
    try:
        if type_ is bool:
            return {"0": False, "1": True}[cell]
        if type_ in (int, float):
            return type_(cell)
        if get_origin(type_) is not None and cell not in get_args(type_):
            raise ValueError(cell)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{cell[:40]!r} in column {column}") from error
    return cell
