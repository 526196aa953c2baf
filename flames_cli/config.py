"""Options of all commands, each declared once: type, limits, default, help text and panel.

The command line is built from these fields (`cli.section_command`).
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticCustomError

from flames_cli.core.imaging.label_names import BACKGROUND, split_labels
from flames_cli.core.imaging.small_lesion_rule import (
    RULE_FORM,
    SmallLesionRule,
    parse_small_lesion_rule,
)
from flames_cli.errors import FlamesError
from flames_cli.learn.models import training_defaults
from flames_cli.learn.train_options import (
    BY_MODEL,
    ENOUGH_PATIENTS,
    FEDERATION,
    MODEL,
    STRATEGY,
    TRAINING,
    TrainOptions,
)
from flames_cli.store import DEFAULT_WORKSPACE
from flames_cli.store.files.parse import parse_toml
from flames_cli.store.member_names import partition_name
from flames_cli.store.schema import RUN, check_stamp
from flames_cli.store.workspace import DEFAULT_PARTITION


def _check_window_size(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise PydanticCustomError("window", "Input should be two numbers, LOW,HIGH, such as -160,240")
    return value


def _check_window(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise PydanticCustomError("window", "Input should be LOW,HIGH with LOW below HIGH, such as -160,240")
    return window


def _read_rule(value: Any) -> SmallLesionRule:
    if isinstance(value, SmallLesionRule):
        return value
    try:
        return parse_small_lesion_rule(str(value))
    except ValueError as error:
        raise PydanticCustomError("rule", f"Input should be {RULE_FORM}") from error


def _read_labels(value: Any) -> Any:
    """Return the labels of one text, or of several."""
    items = value if isinstance(value, list | tuple) else [value]
    labels = split_labels(",".join(str(item) for item in items))
    if items and not labels:
        raise PydanticCustomError("labels", "Labels should be separated by commas, such as 2,3")
    if BACKGROUND & {*labels}:
        raise PydanticCustomError("labels", "Labels should be those of tumour; 0 is the background")
    return labels


def _read_names(value: Any) -> Any:
    """Return the names of one text with commas, or of several."""
    items = value if isinstance(value, list | tuple) else [value]
    names = (name.strip() for item in items for name in str(item).split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _read_mask_threshold(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "half":
        return "half"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise PydanticCustomError(
            "mask_threshold",
            "A threshold should be HALF, or a number above 0",
        )
    return number


def _read_threshold(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < 1:
        raise PydanticCustomError("threshold", "A threshold should be auto, or a number above 0 and below 1")
    return number


def _read_seeds(value: Any) -> Any:
    """Return the seeds of one text, such as 0,1,2, or of several texts or numbers."""
    items = value if isinstance(value, list | tuple) else [value]
    parts = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    if (items and not parts) or not all(part.isdecimal() for part in parts):
        raise PydanticCustomError("seeds", "Seeds should be integers separated by commas, such as 0,1,2")
    if repeated := [part for number, part in enumerate(parts) if int(part) in map(int, parts[:number])]:
        raise PydanticCustomError("seeds", f"Seeds should differ; {repeated[0]} is repeated")
    return [int(part) for part in parts]


def _check_split(value: Any) -> Any:
    """Accept an integer of 1 or more, or "site"; a union would report one mistake as two."""
    if value == "site":
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("split", "Input should be a valid integer or 'site'")
    if value < 1:
        raise PydanticCustomError("split", "Input should be greater than or equal to 1, or 'site'")
    return value


def _check_round(value: Any) -> Any:
    """Accept a round of 1 or more, as a number or a text, or the name of a rule."""
    names = get_args(get_args(Wanted)[0])
    if value is None or (isinstance(value, str) and value in names):
        return value
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise PydanticCustomError("round", f"A round should be {', '.join(names)} or a number of 1 or more")
    return number


def _check_factor(value: float) -> float:
    if value and value <= 1:
        raise PydanticCustomError("factor", "Input should be greater than 1, or 0 for no limit")
    return value


def _check_fold(text: str) -> str:
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    k, n = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= k <= n or n < 2:
        raise PydanticCustomError("fold", "Input should be K/N with K from 1 to N and N of 2 or more")
    return text


Wanted = Literal["best", "best-small", "last"] | int
"""Round that a user asks for."""

DEFAULT_ROUND = f"best from {ENOUGH_PATIENTS} validation patients on, else last"
"""Text that the help shows as the default of --round."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
MAX_NAME = 64
"""Largest number of characters of a name."""

NAME_RULE = (
    f"a name should have at most {MAX_NAME} letters, digits, '.', '_' and '-', and begin with a letter or "
    "digit"
)
"""Text of the error of a value that does not match the pattern of a name, the only pattern of all options."""

Name = Annotated[str, Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}$")]
FoldSet = Annotated[str, Field(pattern=rf"^([A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}})?$")]
"""Name of a set of folds; empty: the only one."""
Factor = Annotated[float, AfterValidator(_check_factor)]
Rate = Annotated[float, Field(gt=0, le=100)]
Split = Annotated[int | Literal["site"], BeforeValidator(_check_split)]
Round = Annotated[Wanted, BeforeValidator(_check_round)]
Threshold = Annotated[Literal["auto"] | float, BeforeValidator(_read_threshold)]
Fold = Annotated[str, AfterValidator(_check_fold)]
Sites = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
Labels = Annotated[tuple[str, ...], BeforeValidator(_read_labels)]
Names = Annotated[tuple[str, ...], BeforeValidator(_read_names)]
MaskThreshold = Annotated[Literal["half"] | float, BeforeValidator(_read_mask_threshold)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_read_seeds)]
Window = Annotated[tuple[float, float], BeforeValidator(_check_window_size), AfterValidator(_check_window)]
Rule = Annotated[SmallLesionRule, BeforeValidator(_read_rule), PlainSerializer(str)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


TRUST, ENGINE, RUN_PANEL = "Trust", "Engine", "Run"
PANELS = ("", TRAINING, MODEL, STRATEGY, FEDERATION, TRUST, ENGINE, RUN_PANEL)
"""Panels of `--help`, in their order; the first one has the options that matter most."""


def option(default: Any, help: str, panel: str = "", **extra: Any) -> Any:
    """Declare one option of a command: its default, help text and panel.

    Args:
        default: value where neither the file nor the command line gives one.
        help: text of `--help`, one or more sentences.
        panel: panel of `--help`, one of PANELS.
        extra: further facts for the command line and for resumed runs.
            `flag`: name of the option, if it is not the key's.
            `shown`: text that `--help` shows as the default.
            `metavar`: form of the value.
            `names`: kind of names that the value is one of: strategies, models, datasets, partitions, runs,
                runs and families, or these with evaluations (runs and evaluations).
            `optional_value`: True if the option may be given without its value, which is then empty.
            `envvar`: environment variable that also sets the option.
            `may_change`: True if the option may differ when a run is resumed.
            `stored`: False if the option is not stored with the run.
            `argument`: True if the values are typed without the name of an option.
    """
    return Field(default=default, description=help, json_schema_extra={"panel": panel, **extra})


class Section(BaseModel):
    """Options that all commands share; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    no_option: ClassVar[tuple[str, ...]] = ()
    """Keys that the command has no option for."""

    workspace: Path = option(
        DEFAULT_WORKSPACE, "Folder of all artifacts.", RUN_PANEL, envvar="FLAMES_WORKSPACE", stored=False
    )
    seed: Seed = option(0, "Seed of everything random; the same seed gives the same bytes.", RUN_PANEL)


class ReadConfig(Section):
    """Options of the commands that read raw data."""

    datasets: tuple[str, ...] = option(
        (),
        "Data set to read (`flames info` lists them), or manifest for your own data; may be repeated.",
        flag="--dataset",
        names="datasets",
    )
    raw: dict[str, Path] = option(
        {},
        "Raw folder of the one data set, or the CSV of a manifest.",
        shown="WORKSPACE/raw/DATASET",
        metavar="PATH",
    )
    root: Path | None = option(
        None,
        "Folder to which the paths of a manifest are relative, such as a read-only export of the PACS.",
        shown="folder of the CSV",
        metavar="DIR",
    )
    size: Annotated[int, Field(ge=16, le=2048)] = option(240, "Side of the square images, in pixels.")
    mask_resize: Literal["aligned", "paper"] = option(
        "aligned",
        "Resizing of masks: aligned with their images, or as in the FLAMES paper, up to half a pixel off.",
    )
    name: Name | None = option(None, "Name of the data sets of a manifest.", shown="name of its folder")
    channels: Literal["grey", "rgb"] = option("grey", "Channels to read: rgb for data sets with colour.")
    plane: Literal["axial", "coronal", "sagittal"] = option("axial", "Plane of the slices of a volume.")
    slices: Literal["near", "lesion", "all"] | None = option(
        None,
        "Slices of a volume: those near the mean slice of the tumour, all with tumour, or all.",
        shown="as in the paper of the data set",
    )
    empty: Literal["skip", "keep"] = option(
        "skip", "Images and volumes without a lesion: skip leaves them out, keep trains and tests on them."
    )
    slice_half_width: Annotated[int, Field(ge=0)] = option(
        20, "Slices on either side of the tumour's mean slice, for --slices near."
    )
    window: dict[str, Window] = option(
        {},
        "Intensities that become black and white, such as CT=-160,240 in HU, also for names such as CT-CE.",
        shown="window of the data set",
        metavar="MODALITY=LOW,HIGH",
    )
    percentile: Annotated[float, Field(gt=0, le=100)] = option(
        95.0, "Percentile that becomes white in a volume or 16-bit image without a window."
    )
    percentile_of: Literal["all", "foreground"] = option(
        "all",
        "Voxels of which the percentile is taken: all, as in the paper, or foreground, those above 0.",
    )
    labels: Labels = option(
        (),
        "Labels of the masks of a manifest that are tumour, by number, name or colour, such as 2 or 2,3; "
        "its column labels overrides them.",
        shown="the only label of each mask",
        metavar="LABEL,…",
    )
    mask_threshold: MaskThreshold | None = option(
        None,
        "Smallest value that is tumour in soft masks (probabilities, JPEG); HALF: half of full scale.",
        shown="the data set's own, else none: soft masks are rejected",
        metavar="HALF|VALUE",
    )
    accept: Path | None = option(
        None, "TOML file of findings to accept, with the id of each and a reason.", metavar="FILE"
    )
    workers: Annotated[int, Field(ge=0)] = option(0, "Number of threads; 0: one for each core.", RUN_PANEL)


class CheckConfig(ReadConfig):
    """Options of `flames check`."""

    no_option = ("seed",)


class PreprocessConfig(ReadConfig):
    """Options of `flames preprocess`."""

    server_test: Annotated[float, Field(ge=0)] | None = option(
        None,
        "Images (1 or more) or fraction of patients (below 1) for the server's test set.",
        shown="number of the paper, at most a quarter of the patients; without a paper a tenth",
    )
    test_fraction: Fraction = option(0.2, "Fraction of the other patients for the clients' test sets.")
    only: Literal["server-test"] | None = option(
        None,
        "The one set of all patients: server-test makes a data set on which no client trains, such as one of "
        "another modality or organ. It replaces --server-test and --test-fraction.",
        shown="all sets",
    )
    small: dict[str, Rule] = option(
        {},
        "Rule for small lesions: DATASET=area:RATIO or DATASET=box:RATIO. Lesions are small if the image is "
        "at least RATIO times as large as they, or as the box of the smallest. :BASE of FedGS's logarithm "
        "may follow.",
        shown="rule of the data set",
        metavar="DATASET=RULE",
    )
    keep_columns: Names = option(
        (),
        "Columns of a manifest to keep, such as sex,age_group, by which results can be compared. Their "
        "values are in shards and in the tables of flames evaluate: keep none that identifies a patient.",
        shown="none",
        metavar="COLUMN,…",
    )
    duplicate_list: Path | None = option(None, "CSV of known copies, column Filename: {a.png&b.png}.")
    salt_file: Path | None = option(
        None,
        "File with the site's salt, from which the pseudonyms of patients are made: 64 or more hex digits.",
        shown="WORKSPACE/private/salt, drawn at the first use",
    )
    skip_bad: bool = option(False, "Leave bad cases out instead of stopping.")
    overwrite: bool = option(False, "Replace existing output.", RUN_PANEL)


class PartitionConfig(Section):
    """Options of `flames partition`."""

    name: Name = option(
        DEFAULT_PARTITION,
        "Name of the partition, for `flames federate --partition`.",
        names="partitions",
        metavar="NAME",
    )
    datasets: tuple[str, ...] = option(
        (),
        "Data set to divide between clients; may be repeated.",
        flag="--dataset",
        names="datasets",
        shown="all preprocessed",
    )
    split: dict[str, Split] = option(
        {},
        "Number of clients, divided by patient, or DATASET=site for one client per centre; may be repeated.",
        shown="brats=3; polypgen, lits, lits-slices by site; others 1",
        metavar="DATASET=CLIENTS",
    )
    skew: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None,
        "Dirichlet concentration of the clients' shares; small values are uneven, such as 0.5.",
        shown="even shares",
    )
    fold: Fold | None = option(
        None,
        "Fold K of an N-fold cross-validation becomes the clients' test set.",
        shown="as preprocessed",
        metavar="K/N",
    )
    folds: Annotated[int, Field(ge=2, le=999)] | None = option(
        None,
        "All N folds of a cross-validation, as partitions fold-1 to fold-N (with --name: NAME-fold-1, …).",
        shown="one partition",
        metavar="N",
    )
    hold_out_site: dict[str, Sites] = option(
        {},
        "Centre whose images no client gets; the server tests on them. May be repeated.",
        metavar="DATASET=SITE",
    )
    val_fraction: Fraction = option(
        0.1, "Fraction of each client's training patients, held out to select the epoch and the round."
    )
    different_people: bool = option(
        False, "Divide data sets that share ids of patients: the same id means another person in each."
    )
    overwrite: bool = option(
        False,
        "Make an existing partition again. If a run was made on it, the old one is renamed, such as "
        "default-old-1.",
        RUN_PANEL,
    )

    @property
    def members(self) -> "list[PartitionConfig]":
        """Options of each partition: one for each fold, or only these."""
        if self.folds is None:
            return [self]
        changes = (
            {"name": partition_name(self.name, k), "fold": f"{k}/{self.folds}", "folds": None}
            for k in range(1, self.folds + 1)
        )
        return [self.model_copy(update=change) for change in changes]

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """Numbers K and N of `fold`; None without a fold."""
        if self.fold is None:
            return None
        k, n = self.fold.split("/")
        return int(k), int(n)


def _key_of(entry: dataclasses.Field[Any]) -> tuple[Any, Any]:
    """Return the type and the pydantic field of an option that is declared in a dataclass."""
    kind: Any = entry.type
    if entry.name in BY_MODEL:
        return kind | None, Field(default=None, **entry.metadata)
    return kind, Field(default=entry.default, **entry.metadata)


_TRAINING_KEYS: dict[str, Any] = {entry.name: _key_of(entry) for entry in fields(TrainOptions)}
_TrainSection = create_model("_TrainSection", __base__=Section, **_TRAINING_KEYS)
"""Section with a key for every option of `TrainOptions`."""


class FederateConfig(_TrainSection, Section):
    """Options of `flames federate`; those of local training are the fields of `TrainOptions`."""

    strategy: str = option(
        "flames", "Federated strategy; see the list below.", names="strategies", metavar="STRATEGY"
    )
    model: str = option(
        "densenet-unet", "Segmentation model; see the list below.", names="models", metavar="MODEL"
    )
    rounds: Annotated[int, Field(ge=1)] = option(50, "Number of rounds in total.", may_change=True)
    engine: Literal["inline", "ray", "superlink"] = option(
        "inline",
        "Engine that runs the clients: inline in this process; ray as many simulated nodes on this machine "
        "(needs the extra flames-cli\\[ray]); superlink on real nodes, which `flames deploy` sets up.",
        may_change=True,
    )
    device: Device = option("auto", "Device for training.", may_change=True)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", may_change=True)
    lr_by_modality: dict[str, Rate] = option(
        {}, "Learning rates of modalities or clients that have their own.", TRAINING
    )
    local_epochs_by_modality: dict[str, Annotated[int, Field(ge=1, le=10_000)]] = option(
        {}, "Local epochs of modalities or clients that have their own.", TRAINING
    )
    lr_schedule: Literal["constant", "cosine", "step"] = option(
        "constant",
        "Learning rate over the rounds: constant, cosine (falls to 0 at the end), or step (a tenth after "
        "half of the rounds, a hundredth after three quarters).",
        TRAINING,
    )
    warmup: Annotated[int, Field(ge=0)] = option(
        0, "Rounds in which the learning rate rises to --lr in equal steps.", TRAINING, metavar="ROUNDS"
    )
    model_options: dict[str, int | float] = option(
        {},
        "Option of the model, such as base_channels=8; may be repeated.",
        MODEL,
        flag="--model-option",
        metavar="NAME=NUMBER",
    )
    encoder_weights: str | None = option(
        None,
        "Initial weights of the encoder: imagenet, none or a weights file.",
        MODEL,
        shown="imagenet for densenet-unet, else none",
        metavar="imagenet|none|FILE",
    )
    share: Literal["all", "content"] = option(
        "all",
        "Entries that clients share: with content, the style of sd-utnet or sdnet stays at the client.",
        FEDERATION,
    )
    style_from: Annotated[int, Field(ge=2)] | None = option(
        None,
        "First round, 2 or later, in which clients also train on images drawn in the styles of others.",
        FEDERATION,
        shown="never",
    )
    server_lr: Rate = option(0.01, "Learning rate of the server's Adam in fedadam.", STRATEGY)
    server_momentum: Fraction = option(
        0.0, "Momentum of the server, below 1, for strategies that average.", STRATEGY
    )
    ema: Fraction = option(
        0.0,
        "Decay of a moving average of the server's models over rounds, below 1, which is used and evaluated "
        "but never trained; 0: the last models are used.",
        STRATEGY,
    )
    fraction: Part = option(
        1.0, "Fraction of the clients of each modality that a round asks; they are drawn by seed.", FEDERATION
    )
    wire_dtype: Literal["fp32", "fp16", "bf16"] = option(
        "fp32",
        "Type in which weights travel; fp16 and bf16 take half the bytes.",
        FEDERATION,
        may_change=True,
    )
    aggregation: Literal["mean", "median", "trimmed-mean", "krum"] = option(
        "mean",
        "Mean of strategies that average; all but mean tolerate bad reports.",
        TRUST,
    )
    bad_clients: Annotated[int, Field(ge=0)] | None = option(
        None,
        "Number of bad reports per model that trimmed-mean or krum tolerates.",
        TRUST,
        shown="as many as possible",
    )
    max_update_norm: Factor | None = option(
        None,
        "Reject a report that moved its model more than this many times as far as the median client's; "
        "0: never.",
        TRUST,
        shown="10 with superlink, else 0",
        may_change=True,
    )
    dp_noise: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None,
        "Differential privacy: standard deviation of the noise on the sum of a round's updates, in clips. "
        "Every client then has the same weight.",
        TRUST,
        shown="no privacy",
    )
    dp_clip: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None, "Largest L2 norm of a client's update in a round; needs --dp-noise.", TRUST, shown="none"
    )
    dp_delta: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None,
        "Delta for which epsilon is reported: far below 1 / number of clients.",
        TRUST,
        shown="1e-5",
    )
    cpus_per_client: Annotated[int, Field(ge=1)] = option(
        1, "CPU cores for each client, with ray.", ENGINE, may_change=True
    )
    clients_per_gpu: Annotated[int, Field(ge=1)] = option(
        1, "Clients that share a GPU, with ray.", ENGINE, may_change=True
    )
    deployment: Path = option(
        Path("flames-deployment"),
        "Folder that `flames deploy init` made, with superlink.",
        ENGINE,
        stored=False,
    )
    size: Annotated[int, Field(ge=32)] | None = option(
        None,
        "Side of the nodes' images in pixels, with superlink.",
        ENGINE,
        shown="as in the partition on this machine, else 240",
    )
    channels: Literal["grey", "rgb"] | None = option(
        None,
        "Channels of the nodes' images, with superlink.",
        ENGINE,
        shown="as in the partition on this machine, else grey",
    )
    min_clients: Annotated[int, Field(ge=1)] = option(
        1,
        "Clients of each modality, or of one with MODALITY=NUMBER, that a round needs to start.",
        ENGINE,
        may_change=True,
        shown="1",
        metavar="NUMBER",
    )
    min_clients_by_modality: dict[str, Annotated[int, Field(ge=0)]] = option(
        {}, "Smallest numbers of clients of modalities that have their own.", ENGINE, may_change=True
    )
    wait_for_clients: Annotated[float, Field(ge=0)] | None = option(
        None,
        "Seconds that a round waits for enough clients, with superlink; the first round waits for all sites.",
        ENGINE,
        shown="300",
        may_change=True,
    )
    round_timeout: Annotated[float, Field(gt=0)] | None = option(
        None,
        "Seconds after which a round continues without late clients; they may join a later round.",
        ENGINE,
        shown="none",
        may_change=True,
    )
    run: Name | None = option(
        None, "Name of the run.", RUN_PANEL, shown="name of the strategy", names="runs and families"
    )
    partition: Name = option(
        DEFAULT_PARTITION,
        "Name of the partition, as in `flames partition --name`.",
        RUN_PANEL,
        names="partitions",
        metavar="NAME",
        # Resuming compares the content of the partition: it may have another name by then.
        may_change=True,
    )
    seeds: Seeds = option(
        (),
        "Seeds of several runs, such as 0,1,2: a run NAME-seed-N for each, on the same partition.",
        RUN_PANEL,
        shown="one run, with --seed",
        metavar="SEED,…",
        stored=False,
    )
    folds: FoldSet | None = option(
        None,
        "A run NAME-fold-K on each fold that `flames partition --folds` made; with several sets of folds the "
        "name of one.",
        RUN_PANEL,
        shown="one run, on --partition",
        metavar="[NAME]",
        names="sets of folds",
        optional_value=True,
        stored=False,
    )
    keep_rounds: Annotated[int, Field(ge=1)] = option(
        2, "Number of newest checkpoints to keep; the best ones are kept too.", RUN_PANEL, may_change=True
    )
    fresh: bool = option(
        False, "Start the run again; the earlier one is renamed, such as NAME-old-1.", RUN_PANEL, stored=False
    )

    @property
    def training(self) -> TrainOptions:
        """Options of local training, with the model's own defaults."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(TrainOptions)}
        own = {key: value for key, value in training_defaults(self.model).items() if given[key] is None}
        return TrainOptions(**{**given, **own})

    @property
    def style_stays(self) -> bool:
        """True if the style of a disentangled model stays at the client."""
        return self.share == "content"

    @property
    def name(self) -> str:
        """Name of the run, or of the family of runs if there are several seeds or folds."""
        return self.run or self.strategy

    @property
    def run_name(self) -> str:
        """Name of the run's folder under `runs/`."""
        return self.name

    @property
    def makes_family(self) -> bool:
        """True if these are the options of several runs."""
        return bool(self.seeds) or self.folds is not None


class EvaluateConfig(Section):
    """Options of `flames evaluate`."""

    no_option = ("seed",)

    run: Name | None = option(
        None,
        "Run to evaluate, or the name of runs with several --seeds, which are pooled.",
        shown="the newest",
        names="runs and families",
    )
    round: Round | None = option(
        None,
        "Round whose models are evaluated: best (by the clients' validation), best-small (by validation on "
        "small lesions), last, or the number of a stored one.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    client_test: bool = option(
        False, "Evaluate every personalised model on the test set of its own client only."
    )
    server_test: bool = option(
        False, "Evaluate every server model on the unseen patients of its modality only."
    )
    cross_site: bool = option(
        False, "Evaluate every client's model on every client's test set, too, and draw the matrix."
    )
    detail: bool = option(False, "Print all tables and notes, not one screen.")
    on: Names = option(
        (),
        "Modality of the server's test sets on which all server models are evaluated, also those of other "
        "modalities (unseen modality); may be repeated.",
        metavar="MODALITY",
    )
    model: str | None = option(
        None,
        "Server model that is evaluated with --on, such as MRI: by its modality, or by its label in the "
        "tables.",
        shown="all",
        metavar="MODEL",
    )
    name: Name | None = option(
        None,
        "Name of the evaluation, and of its folder.",
        shown="name of the run, with what differs from the default",
        metavar="NAME",
    )
    ensemble: bool = option(
        False,
        "Evaluate the mean probability of all runs of a family (seeds and folds) as one model of each "
        "modality, on the server's test patients only.",
    )
    threshold: Threshold = option(
        0.5,
        "Probability above which a pixel is tumour: a number, or auto (chosen for each model on its clients' "
        "validation patients).",
        metavar="THRESHOLD",
    )
    tta: Literal["none", "flips"] = option(
        "none", "Test-time augmentation: none, or the mean over the image and its three flips."
    )
    postprocess: Literal["none", "auto"] = option(
        "none",
        "Clean-up of masks: none, or auto (only the largest connected part stays, for models whose "
        "validation Dice rises by it).",
    )
    lesion_iou: Annotated[float, Field(gt=0, le=1)] = option(
        0.1, "Smallest intersection over union of a lesion and the predicted part that finds it."
    )
    batch_size: Annotated[int, Field(ge=1)] = option(64, "Images in a step.")
    overlays: bool = option(True, "Draw the pictures.")
    device: Device = option("auto", "Device for prediction.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)


Metric = Literal[
    "dice",
    "iou",
    "accuracy",
    "sensitivity",
    "precision",
    "hd95",
    "assd",
    "hausdorff",
    "nsd",
    "volume-error",
    "lesion-f1",
]
"""Metric of the tables of a comparison."""


def _check_runs(runs: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := [run for number, run in enumerate(runs) if run in runs[:number]]:
        raise PydanticCustomError("runs", f"Runs should differ; {repeated[0]} is repeated")
    return runs


class CompareConfig(Section):
    """Options of `flames compare`."""

    runs: Annotated[tuple[Name, ...], AfterValidator(_check_runs)] = option(
        (),
        "Runs, families of runs (several --seeds or folds, which are pooled), or evaluations; the first is "
        "the reference.",
        names="runs and evaluations",
        metavar="RUN…",
        argument=True,
    )
    metrics: tuple[Metric, ...] = option(
        ("dice",),
        f"Metric of the tables: {', '.join(get_args(Metric))}; may be repeated. The CSV files have all.",
        flag="--metric",
        shown="dice",
        metavar="METRIC",
    )
    protocol: Literal["auto", "slices", "volumes"] = option(
        "auto",
        "Cases that have one value each: volumes and still images (auto), the same if all volumes are "
        "complete (volumes), or the selected images, as in the paper (slices).",
    )
    by: str | None = option(
        None,
        "Also show the means by site, dataset, organ, modality, lesion, or a column of the manifest that was "
        "kept.",
        shown="none",
        metavar="COLUMN",
    )
    round: Round | None = option(
        None,
        "Round whose models are compared: best, best-small, last or a number, as in `flames evaluate`.",
        shown=f"{DEFAULT_ROUND}, by one rule for all runs",
        metavar="ROUND",
    )
    name: Name | None = option(
        None,
        "Name of the comparison, and of its folder.",
        shown="names of the runs, joined by -vs-",
        metavar="NAME",
    )
    detail: bool = option(False, "Print all lines, with standard deviations and all tests.")
    batch_size: Annotated[int, Field(ge=1)] = option(
        64, "Images in a step, for runs that are evaluated first."
    )
    overlays: bool = option(True, "Draw the pictures.")
    device: Device = option("auto", "Device for runs that are evaluated first.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)


class TsneConfig(Section):
    """Options of `flames tsne`."""

    features: Literal["pixels", "deep"] = option(
        "pixels", "Features of an image: its pixels, or the bottleneck of a run's model (deep)."
    )
    run: Name | None = option(None, "Run for deep features.", shown="the newest", names="runs")
    partition: Name | None = option(
        None,
        "Partition whose images are drawn, with pixels.",
        shown="default; with deep features that of the run",
        names="partitions",
        metavar="NAME",
    )
    name: Name | None = option(
        None, "Name of the map.", RUN_PANEL, shown="pixels, or deep-RUN", metavar="NAME"
    )
    round: Round | None = option(
        None,
        "Round whose models make deep features: best, best-small, last or a number, as in `flames evaluate`.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    max_images: Annotated[int, Field(ge=10)] = option(
        1000, "Largest number of images of each client, drawn by seed."
    )
    perplexity: Annotated[float, Field(gt=1)] = option(30.0, "Perplexity of t-SNE.")
    device: Device = option("auto", "Device for deep features.", RUN_PANEL)


class DemoConfig(Section):
    """Options of `flames demo`."""

    workspace: Path = option(Path("flames-demo"), "Folder of the demo's artifacts.", RUN_PANEL)
    size: Annotated[int, Field(ge=32, le=240)] = option(64, "Side of the square images, in pixels.")
    rounds: Annotated[int, Field(ge=1)] = option(16, "Number of rounds of each run.")
    device: Device = option("auto", "Device for training.")


SECTIONS: dict[str, type[Section]] = {
    "check": CheckConfig,
    "preprocess": PreprocessConfig,
    "partition": PartitionConfig,
    "federate": FederateConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "tsne": TsneConfig,
    "demo": DemoConfig,
}
SHARED = ("workspace", "seed")

SectionT = TypeVar("SectionT", bound=Section)


def load_section(kind: type[SectionT], options: Mapping[str, Any], file: Path | None = None) -> SectionT:
    """Return the options of one command: defaults, then `file`, then the typed `options`.

    Paths in a file are relative to that file. The complete file is checked, not only this command's table.
    The config.toml of a run is also accepted.

    Raises:
        FlamesError: every wrong option as `field: message`, or a file that cannot be read.
    """
    name = next(name for name, section in SECTIONS.items() if section is kind)
    values = _read_tables(file)[name] if file else {}
    return check_section(kind, _replace(values, options))


REPLACED = {"seeds": {"seed"}, "folds": {"fold", "partition"}, "fold": {"folds"}, "partition": {"folds"}}
"""Keys whose typed value replaces other keys of the file."""


def _replace(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with the `others` in their place: several seeds or folds also
    replace one."""
    replaced = {old for new, keys in REPLACED.items() if new in others for old in keys}
    return {key: value for key, value in values.items() if key not in replaced} | {**others}


def _read_tables(file: Path) -> dict[str, dict[str, Any]]:
    """Return each command's values in `file`: its table, and the shared keys where the table has none."""
    try:
        content = parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FlamesError(f"no configuration {file}; check --config") from error
    except (OSError, ValueError) as error:
        raise FlamesError(f"{file} cannot be read as TOML: {error}") from error
    if "format" in content:
        # This is the config.toml of a run; its stamp and its facts are not options.
        check_stamp(content, RUN, file)
        content = {"federate": content.get("federate", {})}
    unknown = [key for key in content if key not in (*SECTIONS, *SHARED)]
    if unknown:
        known = ", ".join((*SHARED, *(f"[{name}]" for name in SECTIONS)))
        raise FlamesError(f"{file}: '{unknown[0]}' is not known; choose from {known}")
    shared = _resolve_paths({key: content[key] for key in SHARED if key in content}, file.parent)
    problems = _problems(Section, shared, where="")
    tables = {}
    for name, section in SECTIONS.items():
        table = content.get(name, {})
        if not isinstance(table, dict):
            problems.append(f"{name}: input should be a table, [{name}] (got {table!r})")
            continue
        table = _resolve_paths(table, file.parent)
        problems += _problems(section, table, where=f"{name}.")
        tables[name] = _replace(shared, table)
    if problems:
        raise FlamesError(f"{file}: " + "; ".join(problems))
    return tables


def _resolve_paths(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    resolved = dict(table)
    for key in ("workspace", "root", "accept", "duplicate_list", "salt_file", "deployment"):
        if isinstance(resolved.get(key), str):
            resolved[key] = folder / resolved[key]
    if isinstance(resolved.get("raw"), dict):
        raw = resolved["raw"].items()
        resolved["raw"] = {name: folder / path if isinstance(path, str) else path for name, path in raw}
    return resolved


def check_section(kind: type[SectionT], values: Mapping[str, Any], where: str = "") -> SectionT:
    """Return the options of one command, from `values` alone.

    Raises:
        FlamesError: every wrong option as `field: message`, with `where` before each; or seeds and another
            seed.
    """
    if problems := _problems(kind, values, where):
        raise FlamesError("; ".join(problems))
    made = kind(**values)
    if isinstance(made, FederateConfig) and made.seeds and "seed" in made.model_fields_set:
        _check_same_seed(made, where)
    if isinstance(made, FederateConfig) and made.folds is not None and "partition" in made.model_fields_set:
        raise FlamesError(
            f"{where}got partition {made.partition} and folds, expected one of the two; leave --partition "
            "out for all folds, or --folds for one partition"
        )
    if isinstance(made, PartitionConfig) and made.fold and made.folds:
        raise FlamesError(
            f"{where}got fold {made.fold} and folds {made.folds}, expected one of the two; leave --fold out "
            "for all folds, or --folds for one"
        )
    return made


def _check_same_seed(made: FederateConfig, where: str) -> None:
    if made.seeds != (made.seed,):
        listed = ",".join(map(str, made.seeds))
        raise FlamesError(
            f"{where}got seed {made.seed} and seeds {listed}, expected one of the two; leave --seed out for "
            "several runs, or --seeds for one"
        )


def _problems(kind: type[Section], values: Mapping[str, Any], where: str) -> list[str]:
    try:
        kind(**values)
    except ValidationError as error:
        found = {}
        for item in error.errors():
            # A union of int and float reports one mistake twice.
            place = [part for part in item["loc"] if part not in ("int", "float")]
            field = ".".join(part for part in place if isinstance(part, str))
            message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
            if item["type"] == "extra_forbidden":
                message += suggest(field, kind.model_fields)
            if item["type"] == "literal_error":
                message += suggest(item["input"], re.findall("'([^']*)'", item["ctx"]["expected"]))
            if item["type"] == "string_pattern_mismatch":
                message = NAME_RULE
            message += f" (got {_shown(item['input'])})"
            found[(*place,)] = f"{where}{field}: {message}"
        return list(found.values())
    return []


def _shown(value: Any) -> str:
    """Return a rejected value as a message shows it: the texts of a repeatable option without brackets."""
    if isinstance(value, tuple | list) and value and all(isinstance(part, str) for part in value):
        return ", ".join(map(repr, value))
    return repr(value)


SYNONYMS = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "gray": "grey"}
"""Words that users may write for a known word to which they are not similar, or less than to another."""


def suggest(word: object, known: Iterable[str]) -> str:
    """Return ", did you mean …?" with the known word nearest to `word`; "" if none is near."""
    words = [*known]
    same = SYNONYMS.get(str(word).lower())
    near = [same] if same in words else get_close_matches(str(word), words, n=1)
    return f", did you mean {near[0]}?" if near else ""


def facts_of(kind: type[Section], key: str) -> dict[str, Any]:
    """Return what `option` declares of a key besides its default, help text and limits."""
    extra = kind.model_fields[key].json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def keys_with(kind: type[Section], fact: str, value: object) -> set[str]:
    """Return the keys of a section for which `option` declares this value of `fact`."""
    return {key for key in kind.model_fields if facts_of(kind, key).get(fact) == value}
