"""Every option of every command: frozen, checked, all errors shown at once."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from flames_cli.core.imaging.small_lesion_rule import (
    RULE_FORM,
    SmallLesionRule,
    parse_small_lesion_rule,
)
from flames_cli.errors import FlamesError
from flames_cli.store.files.parse import parse_toml

DEFAULT_WORKSPACE = Path("flames-workspace")


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


def _check_split(value: Any) -> Any:
    """An integer of 1 or more, or "site"; told here in one message, where a union would tell two."""
    if value == "site":
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("split", "Input should be a valid integer or 'site'")
    if value < 1:
        raise PydanticCustomError("split", "Input should be greater than or equal to 1, or 'site'")
    return value


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


Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Factor = Annotated[float, AfterValidator(_check_factor)]
Rate = Annotated[float, Field(gt=0, le=100)]
Split = Annotated[int | Literal["site"], BeforeValidator(_check_split)]
Fold = Annotated[str, AfterValidator(_check_fold)]
Sites = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
Window = Annotated[tuple[float, float], BeforeValidator(_check_window_size), AfterValidator(_check_window)]
Rule = Annotated[SmallLesionRule, BeforeValidator(_read_rule), PlainSerializer(str)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


class Section(BaseModel):
    """What all commands share; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    workspace: Path = DEFAULT_WORKSPACE
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class ReadConfig(Section):
    """What every command that reads raw data shares."""

    datasets: tuple[str, ...] = ()
    raw: dict[str, Path] = {}
    """Raw folder by data set; default <workspace>/raw/<dataset>."""
    size: Annotated[int, Field(ge=16, le=2048)] = 240
    name: Name | None = None
    """Of a manifest's data sets; None: its folder's name."""
    channels: Literal["grey", "rgb"] = "grey"
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    slices: Literal["near", "lesion", "all"] | None = None
    """Of a volume; None: as the data set's paper."""
    slice_half_width: Annotated[int, Field(ge=0)] = 20
    window: dict[str, Window] = {}
    """Intensities low, high that become 0 and 1, by modality; CT has 0 at water (HU)."""
    percentile: Annotated[float, Field(gt=0, le=100)] = 95.0
    """Of a volume without a window, that becomes 1."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Threads; 0: one a core."""


class CheckConfig(ReadConfig):
    """Options of `flames check`."""


class PreprocessConfig(ReadConfig):
    """Options of `flames preprocess`."""

    server_test: Annotated[float, Field(ge=0)] | None = None
    """Images (1 or more) or a fraction (below 1); None: the paper's number, at most a quarter."""
    test_fraction: Fraction = 0.2
    small: dict[str, Rule] = {}
    """Which images hold small lesions, by data set, where it is not as its reader says."""
    duplicate_list: Path | None = None
    salt_file: Path | None = None
    """The site's salt; None: the workspace's own, drawn when it is first needed."""
    skip_bad: bool = False
    overwrite: bool = False


class PartitionConfig(Section):
    """Options of `flames partition`."""

    datasets: tuple[str, ...] = ()
    """Empty: all that are preprocessed."""
    split: dict[str, Split] = {}
    """Clients by data set or collection; where it is not named: as DEFAULT_SPLIT, else 1."""
    skew: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Dirichlet concentration of the clients' shares, small for uneven ones; None: even."""
    fold: Fold | None = None
    """k/n: fold k of an n-fold cross-validation is the clients' test set; None: as preprocessed."""
    hold_out_site: dict[str, Sites] = {}
    """By data set: sites that no client sees, test sets of the server's."""
    val_fraction: Fraction = 0.1
    overwrite: bool = False

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """k, n of `fold`."""
        if self.fold is None:
            return None
        k, n = self.fold.split("/")
        return int(k), int(n)


class FederateConfig(Section):
    """Options of `flames federate`."""

    strategy: str = "flames"
    rounds: Annotated[int, Field(ge=1)] = 50
    local_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Rate = 1e-4
    lr_by_modality: dict[str, Rate] = {}
    """Learning rate where a modality has its own."""
    dice_weight: Annotated[float, Field(ge=0, le=1)] = 0.3
    per_pixel_focal: bool = False
    augment: bool = True
    model: str = "densenet-unet"
    model_options: dict[str, int | float] = {}
    encoder_weights: str | None = None
    """None: imagenet for densenet-unet, none for the others."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    """None: the optimiser's own, 0.01 for adamw, else 0."""
    keep_epoch: Literal["best", "last"] = "best"
    """Which local epoch is reported: the best one by the validation patients, or the last."""
    proximal_mu: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    """Of fedprox."""
    precise_norm: bool = True
    """Of fedgs and flames-fedgs: BatchNorm's statistics are those of the weights reported."""
    server_lr: Rate = 0.01
    """Of fedadam."""
    server_momentum: Fraction = 0.0
    """Of strategies that average; 0 takes the average as it is."""
    aggregation: Literal["mean", "median", "trimmed-mean", "krum"] = "mean"
    """Of strategies that average: the mean, or one that bears bad reports."""
    bad_clients: Annotated[int, Field(ge=0)] | None = None
    """That a robust mean is to bear, of every model's; None: as many as it can."""
    max_update_norm: Factor | None = None
    """How many times as far as the median client a client may move its model; 0: no limit; None: 10 with
    superlink, no limit elsewhere."""
    share: Literal["all", "content"] = "all"
    """content: the style of a disentangled model stays at the client."""
    style_from: Annotated[int, Field(ge=2)] | None = None
    """First round in which clients also train on images in each other's styles; None: never. The round before
    is the first after which there are any."""
    wire_dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """What floats travel as between server and clients."""
    dp_noise: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Standard deviation of differential privacy's noise, in clips; None: no privacy."""
    dp_clip: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The largest L2 norm of a client's update in a round."""
    dp_delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """At which epsilon is told; None: 1e-5."""
    engine: Literal["inline", "ray", "superlink"] = "inline"
    """In this process; Flower's simulation on this machine; real nodes over the network."""
    cpus_per_client: Annotated[int, Field(ge=1)] = 1
    """Of ray."""
    clients_per_gpu: Annotated[int, Field(ge=1)] = 1
    """Of ray: clients that share a GPU."""
    deployment: Path = Path("flames-deployment")
    """Of superlink: the folder that `flames deploy init` made."""
    size: Annotated[int, Field(ge=32)] | None = None
    """Of superlink: the side of the nodes' images; None: as this machine's partition, else 240."""
    channels: Literal["grey", "rgb"] | None = None
    """Of superlink: of the nodes' images; None: as this machine's partition, else grey."""
    min_clients: Annotated[int, Field(ge=1)] = 1
    """Of every modality, for a round to start."""
    min_clients_by_modality: dict[str, Annotated[int, Field(ge=0)]] = {}
    wait_for_clients: Annotated[float, Field(ge=0)] | None = None
    """Seconds that a round waits for enough clients; None: 300 for superlink."""
    round_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a round goes on without the late; None: it waits for all."""
    device: Device = "auto"
    precision: Precision = "auto"
    run: Name | None = None
    """None: the strategy's name."""
    keep_rounds: Annotated[int, Field(ge=1)] = 2
    """Checkpoints kept, the newest."""
    fresh: bool = False

    @property
    def run_name(self) -> str:
        """The run's folder under `runs/`."""
        return self.run or self.strategy


class EvaluateConfig(Section):
    """Options of `flames evaluate`."""

    run: Name | None = None
    """None: the newest run."""
    client_test: bool = False
    server_test: bool = False
    compare: Name | None = None
    batch_size: Annotated[int, Field(ge=1)] = 64
    device: Device = "auto"
    precision: Precision = "auto"
    overlays: bool = True


class TsneConfig(Section):
    """Options of `flames tsne`."""

    features: Literal["pixels", "deep"] = "pixels"
    run: Name | None = None
    """Whose bottleneck features, for `deep`; None: the newest run."""
    max_images: Annotated[int, Field(ge=10)] = 1000
    """Per client at most, drawn by seed."""
    perplexity: Annotated[float, Field(gt=1)] = 30.0
    device: Device = "auto"


class DemoConfig(Section):
    """Options of `flames demo`."""

    workspace: Path = Path("flames-demo")
    size: Annotated[int, Field(ge=32, le=240)] = 64
    rounds: Annotated[int, Field(ge=1)] = 12
    device: Device = "auto"


SECTIONS: dict[str, type[Section]] = {
    "check": CheckConfig,
    "preprocess": PreprocessConfig,
    "partition": PartitionConfig,
    "federate": FederateConfig,
    "evaluate": EvaluateConfig,
    "tsne": TsneConfig,
    "demo": DemoConfig,
}
SHARED = ("workspace", "seed")

SectionT = TypeVar("SectionT", bound=Section)


def load_section(kind: type[SectionT], options: Mapping[str, Any], file: Path | None = None) -> SectionT:
    """The options of one command: defaults, then `file`, then what was typed (`options`).

    Paths in a file are relative to that file. The whole file is checked, not only this command's table.

    Raises:
        FlamesError: every wrong option as `field: message`, or a file that cannot be read.
    """
    name = next(name for name, section in SECTIONS.items() if section is kind)
    values = _read_tables(file)[name] if file else {}
    return check_section(kind, {**values, **options})


def _read_tables(file: Path) -> dict[str, dict[str, Any]]:
    """Each command's values in `file`: the shared keys at its top, overlaid with the command's table."""
    try:
        content = parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FlamesError(f"no configuration {file}; check --config") from error
    except (OSError, ValueError) as error:
        raise FlamesError(f"{file} cannot be read as TOML: {error}") from error
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
        tables[name] = {**shared, **table}
    if problems:
        raise FlamesError(f"{file}: " + "; ".join(problems))
    return tables


def _resolve_paths(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    resolved = dict(table)
    for key in ("workspace", "duplicate_list", "salt_file", "deployment"):
        if isinstance(resolved.get(key), str):
            resolved[key] = folder / resolved[key]
    if isinstance(resolved.get("raw"), dict):
        raw = resolved["raw"].items()
        resolved["raw"] = {name: folder / path if isinstance(path, str) else path for name, path in raw}
    return resolved


def check_section(kind: type[SectionT], values: Mapping[str, Any], where: str = "") -> SectionT:
    """The options of one command, from `values` alone.

    Raises:
        FlamesError: every wrong option as `field: message`, with `where` before each.
    """
    if problems := _problems(kind, values, where):
        raise FlamesError("; ".join(problems))
    return kind(**values)


def _problems(kind: type[Section], values: Mapping[str, Any], where: str) -> list[str]:
    try:
        kind(**values)
    except ValidationError as error:
        found = {}
        for item in error.errors():
            # A number that is neither whole nor a float is refused as both: it is one mistake.
            field = ".".join(str(part) for part in item["loc"] if part not in ("int", "float"))
            message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
            if item["type"] == "extra_forbidden":
                message += _suggest(kind, field)
            message += f" (got {item['input']!r})"
            found[field] = f"{where}{field}: {message}"
        return list(found.values())
    return []


def _suggest(kind: type[Section], key: str) -> str:
    alike = get_close_matches(key, kind.model_fields, n=1)
    return f"; did you mean {alike[0]}?" if alike else ""
