"""Folders of predictions: prediction.json with the models and options, a line for each image that is done,
and cases.csv for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from flames_cli.errors import FlamesError
from flames_cli.store.evaluations import METRIC
from flames_cli.store.files.atomic import finite, write_csv, write_json, write_text
from flames_cli.store.files.jsonl import Tail, append_line, to_line
from flames_cli.store.schema import PREDICTION, check_stamp, read_json, stamp

SUMMARY, LINES, CASES = "prediction.json", "cases.jsonl", "cases.csv"
"""Names of the files in a folder of predictions."""
LEFT_OUT = ("extra", "truth", "sha256", "truth_sha256")
"""Fields of a case that are no columns of cases.csv."""


@dataclass(frozen=True, slots=True)
class TruthScores:
    """Agreement of one predicted mask with the true one, in the geometry of the source.

    A ratio whose denominator is zero is None, and so are numbers in mm and ml where the spacing is unknown,
    and distances if one mask is empty.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    dice: float
    sensitivity: float | None
    precision: float | None
    hd95_mm: float | None
    """95th percentile of the distances between the surfaces."""
    assd_mm: float | None
    """Average symmetric surface distance."""
    nsd_2mm: float | None
    """Normalised surface Dice at a tolerance of 2 mm."""
    true_ml: float | None
    """True volume; None for still images."""
    volume_error_ml: float | None
    """Predicted minus true volume; None for still images."""
    true_lesions: int
    matched_lesions: int
    lesion_f1: float | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Metrics of plug-ins by name; None where a metric is infinite or not defined."""


@dataclass(frozen=True, slots=True)
class PredictedCase:
    """One image or volume: what was predicted, or why nothing was."""

    input: str
    """Name of the input, and of its files in the folder, without their suffix."""
    path: str
    """The image's file, or the first one of a DICOM series."""
    sha256: str
    """Checksum of the bytes of all of its files."""
    status: Literal["done", "failed"]
    reason: str = ""
    """Reason why it failed."""
    model: str = ""
    modality: str = ""
    """Modality that the DICOM file or the manifest states."""
    patient: str = ""
    """Patient that the manifest states."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Cells of the columns that the user kept from the manifest."""
    mask: str = ""
    """File of the mask, relative to the folder."""
    slices: int = 0
    pixels: int = 0
    """Number of pixels, or voxels, of the mask."""
    area_mm2: float | None = None
    """Area of the mask of a still image; None for a volume, or if the spacing is unknown."""
    volume_ml: float | None = None
    """Volume of the mask; None for a still image, or if the spacing is unknown."""
    n_lesions: int = 0
    """Number of connected parts; those of a volume in 3D."""
    largest_diameter_mm: float | None = None
    """Maximal Feret diameter of the lesion for which it is largest (`core.imaging.diameters`), in 3D for a
    volume; None if the spacing is unknown or the mask is empty."""
    largest_diameter_px: float | None = None
    """The same in pixels of a still image; None for a volume, or if the mask is empty."""
    mean_probability: float | None = None
    """Mean probability inside the mask; None if it is empty."""
    max_probability: float = 0.0
    """Largest probability of the image."""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    """Time of reading, of the model and of writing."""
    truth: TruthScores | None = None
    """None: no true mask was given."""
    truth_sha256: str = ""
    """Checksum of the true masks and of their labels; empty: none was given."""


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """Content of prediction.json."""

    models: Mapping[str, str]
    """SHA-256 of the weights of each model, by name."""
    options: Mapping[str, Any]
    """Options that change the masks or the files."""
    flames: str
    """Version that made it."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each input that is done, by name; empty until the command has ended."""
    complete: bool = False
    """True if every input of the last command is done or has failed."""

    def has_same_options(self, other: "PredictionFile") -> bool:
        """Return whether both predict the same: models and options are equal."""
        return (dict(self.models), dict(self.options)) == (dict(other.models), dict(other.options))


def write_prediction_file(folder: Path, content: PredictionFile) -> None:
    """Write prediction.json, atomically."""
    write_json(folder / SUMMARY, {**stamp(PREDICTION), **asdict(content)})


def read_prediction_file(folder: Path) -> PredictionFile:
    """Return the content of prediction.json.

    Raises:
        MissingArtifact: there is none.
        FlamesError: it cannot be read, or has another format or version.
    """
    path = folder / SUMMARY
    content = read_json(path, PREDICTION)
    check_stamp(content, PREDICTION, path)
    try:
        return _file_form().validate_python(content)
    except ValidationError as error:
        raise FlamesError(
            f"{path} has wrong entries ({_first(error)}); pass another --out, or move the folder away"
        ) from error


def append_case(folder: Path, case: PredictedCase) -> None:
    """Append an image to the list of those that are done, so that a killed command continues after it."""
    append_line(folder / LINES, case_json(case))


def read_cases(folder: Path) -> dict[str, PredictedCase]:
    """Return the images of the list, the last line of each, by name, and remove a line that a kill cut short.

    Raises:
        FlamesError: a line cannot be read.
    """
    path = folder / LINES
    found: dict[str, PredictedCase] = {}
    try:
        for record in Tail(path).read():
            case = _case_form().validate_python(record)
            found[case.input] = case
    except ValueError as error:  # also that of pydantic
        what = _first(error) if isinstance(error, ValidationError) else str(error)
        raise FlamesError(
            f"{path} cannot be read ({what}); pass another --out, or move the folder away"
        ) from error
    if path.is_file():
        write_text(path, "".join(to_line(case_json(case)) for case in found.values()))
    return found


def case_record(case: PredictedCase) -> dict[str, Any]:
    """Return the line of an image in cases.csv by column; what is not known is None."""
    plain = {one.name: getattr(case, one.name) for one in fields(case) if one.name not in LEFT_OUT}
    extra = {f"extra_{name}": value for name, value in case.extra.items()}
    scores = asdict(case.truth) if case.truth else {}
    own = {f"{METRIC}{name}": value for name, value in scores.pop("metrics", {}).items()}
    return {**plain, "warnings": "; ".join(case.warnings), **extra, **scores, **own}


def write_cases(folder: Path, cases: Sequence[PredictedCase]) -> None:
    """Write cases.csv, atomically: a line for each image; columns of true masks only if there are some."""
    kept = list(dict.fromkeys(name for case in cases for name in case.extra))
    plain = [one.name for one in fields(PredictedCase) if one.name not in LEFT_OUT]
    truths = [case.truth for case in cases if case.truth]
    scored = [one.name for one in fields(TruthScores) if one.name != "metrics"] if truths else []
    own = list(dict.fromkeys(name for truth in truths for name in truth.metrics))
    rows = [
        [
            *(_cell(getattr(case, name)) for name in plain),
            *(case.extra.get(name, "") for name in kept),
            *(_cell(getattr(case.truth, name)) if case.truth else "" for name in scored),
            *(_cell(case.truth.metrics.get(name)) if case.truth else "" for name in own),
        ]
        for case in cases
    ]
    header = [*plain, *(f"extra_{name}" for name in kept), *scored, *(f"{METRIC}{name}" for name in own)]
    write_csv(folder / CASES, header, rows)


def case_json(case: PredictedCase) -> dict[str, Any]:
    """Return a case as a JSON object; a number that is not finite becomes null."""
    content: dict[str, Any] = finite(asdict(case))
    if case.truth and not case.truth.metrics:
        del content["truth"]["metrics"]
    return content


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return "; ".join(value) if isinstance(value, tuple) else value


@cache
def _file_form() -> TypeAdapter[PredictionFile]:
    return TypeAdapter(PredictionFile)


@cache
def _case_form() -> TypeAdapter[PredictedCase]:
    return TypeAdapter(PredictedCase)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
