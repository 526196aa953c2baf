"""Raw data: phantoms, the check of raw data, and their conversion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flames_cli.api.options import PathLike, make_config, takes
from flames_cli.api.progress import Callback, stage_progress
from flames_cli.config import CheckConfig, PreprocessConfig, ReadConfig
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader
from flames_cli.stages.check.stage import check as check_stage
from flames_cli.stages.demo.phantoms import PATIENTS, add_phantoms
from flames_cli.stages.entrance import set_up_process
from flames_cli.stages.preprocess.stage import preprocess as preprocess_stage

ReadT = TypeVar("ReadT", bound=ReadConfig)
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of the check of raw data."""

    passed: bool
    """True if no data set has a problem."""
    findings: list[Record] = field(repr=False)
    """One record for each finding: dataset, severity (problem or note), code, what, fix, count."""
    counts: dict[str, dict[str, int]] = field(repr=False)
    """Numbers of sources, usable ones, patients and images, by data set."""
    pages: list[Path]
    """HTML page of each data set, with pictures."""
    reports: list[Record] = field(repr=False)
    """Content of check/DATASET.json of each data set."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One preprocessed data set: the images of one modality and organ."""

    name: str
    modality: str
    organ: str
    file: Path
    images: dict[str, int]
    """Number of images by set: client_train, client_test, server_test."""
    patients: dict[str, int]
    """Number of patients by set."""
    report: Record = field(repr=False)
    """Content of its JSON file, with all that was left out."""


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """Result of preprocessing."""

    datasets: list[DataSet]

    @property
    def left_out(self) -> list[Record]:
        """One record for each source that was left out: dataset, name (a pseudonym), reason."""
        return [
            {"dataset": one.name, "name": name, "reason": reason}
            for one in self.datasets
            for name, reason in _left_out(one.report)
        ]


def _left_out(report: Record) -> list[tuple[str, str]]:
    skipped = [(one["name"], one["reason"]) for one in report["skipped"]]
    copies = [(one["name"], f"a copy of {one['same_as']}") for one in report["copies_left_out"]]
    return [*skipped, *((name, "it cannot be trusted") for name in report["bad"]), *copies]


def make_phantoms(
    folder: PathLike,
    *,
    seed: int = 0,
    patients: int | Mapping[str, int] | None = None,
    progress: Callback | None = None,
) -> dict[str, Path]:
    """Draw the synthetic data of `flames demo`: brain MRI (brats), breast US (busi), ovary US (otu2d).

    Args:
        folder: folder of the three raw data sets; the same call keeps what is there.
        seed: seed of the images; the same seed gives the same bytes.
        patients: number of patients of every data set, or of those that are named; None: that of the demo.
        progress: function that receives events.

    Returns:
        The folder of each data set, which `check` and `preprocess` take as `raw`.

    Raises:
        FlamesError: a data set is not known, a number is below 1, or the folder has other files for it.

    Examples:
        >>> raw = flames.make_phantoms(folder / "phantoms", patients={"busi": 4})
        >>> sorted(raw)
        ['busi']
    """
    set_up_process()
    wanted = PATIENTS if patients is None else patients
    numbers = dict.fromkeys(PATIENTS, wanted) if isinstance(wanted, int) else dict(wanted)
    for name, number in numbers.items():
        if name not in PATIENTS or number < 1:
            raise FlamesError(
                f"got {number} patients of {name}, expected 1 or more of {', '.join(PATIENTS)}; correct "
                "patients"
            )
    with stage_progress(progress) as report:
        return add_phantoms(Path(folder), seed, numbers, report)


@takes(CheckConfig)
def check(
    config: CheckConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Checked:
    """Check raw data before any training; faults of the data are findings, not errors.

    Args:
        config: options as a `CheckConfig`, or the path of a TOML file; the keywords replace them.
            Without `datasets` those of `raw` are checked.
        progress: function that receives events.

    Raises:
        FlamesError: an option is wrong, or a folder is not what its reader expects.

    Examples:
        >>> checked = flames.check(raw=raw, workspace=workspace)
        >>> checked.counts["busi"]["patients"]
        8
    """
    chosen = _with_datasets(make_config(CheckConfig, config, options))
    with stage_progress(progress) as report:
        reports = check_stage(chosen, report)
    return Checked(
        passed=all(one["passed"] for one in reports),
        findings=[
            {"dataset": one["dataset"], **{key: found[key] for key in _FINDING}}
            for one in reports
            for found in one["findings"]
        ],
        counts={one["dataset"]: dict(one["counts"]) for one in reports},
        pages=[chosen.workspace / "check" / one["page"] for one in reports],
        reports=reports,
    )


_FINDING = ("severity", "code", "what", "fix", "count")


@takes(PreprocessConfig)
def preprocess(
    config: PreprocessConfig | PathLike | None = None, *, progress: Callback | None = None, **options: Any
) -> Preprocessed:
    """Convert raw images to one HDF5 file for each data set: square, scaled, split by patient.

    Args:
        config: options as a `PreprocessConfig`, or the path of a TOML file; the keywords replace them.
            Without `datasets` those of `raw` are converted.
        progress: function that receives events.

    Raises:
        FlamesError: an option is wrong, a source cannot be trusted, or a file exists and `overwrite` is not
            passed.

    Examples:
        >>> made = flames.preprocess(raw=raw, size=32, workspace=folder / "new")
        >>> [(one.name, one.modality, sorted(one.images)) for one in made.datasets]
        [('busi', 'US', ['client_test', 'client_train', 'server_test'])]
    """
    chosen = _with_datasets(make_config(PreprocessConfig, config, options))
    reports: list[Record] = []
    with stage_progress(progress) as report:
        for name in dict.fromkeys(get_reader(named).name for named in chosen.datasets):
            reports += preprocess_stage(chosen, name, report)
    return Preprocessed([_data_set(chosen.workspace, one) for one in reports])


def _data_set(workspace: Path, report: Record) -> DataSet:
    return DataSet(
        name=report["dataset"],
        modality=report["modality"],
        organ=report["organ"],
        file=workspace / "preprocessed" / report["file"],
        images={name: one["images"] for name, one in report["sets"].items()},
        patients={name: one["patients"] for name, one in report["sets"].items()},
        report=report,
    )


def _with_datasets(config: ReadT) -> ReadT:
    """Return the options with the data sets of `raw` where none is named.

    Raises:
        FlamesError: there is none either.
    """
    if config.datasets:
        return config
    if not config.raw:
        raise FlamesError(
            "got no data set, expected one or more; pass datasets=[…], or raw={NAME: FOLDER} (`flames info` "
            "lists the names)"
        )
    return config.model_copy(update={"datasets": tuple(config.raw)})
