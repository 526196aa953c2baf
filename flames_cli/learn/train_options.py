"""The options of local training, declared once, and the input and result of one client's round.

Imports neither torch nor numpy, so that the command line is built from these fields at no cost.
"""

import operator
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from flames_cli.arrays import Weights
    from flames_cli.core.federated.candidates import Offer
    from flames_cli.learn.local_updates import LocalUpdate
    from flames_cli.learn.predict import Validation

ENOUGH_PATIENTS = 10
"""Least number of validation patients by which an epoch or a round is selected by default."""

TRAINING, MODEL, STRATEGY, FEDERATION = "Training", "Model", "Strategy", "Federation"
"""Panels of the help of `flames federate`."""


def option(
    default: Any,
    help: str,
    panel: str = TRAINING,
    shown: str | None = None,
    by_model: bool = False,
    facts: Mapping[str, str] | None = None,
    **limits: float,
) -> Any:
    """Declare one option: its default, help text and limits.

    The metadata has the names of pydantic's `Field`, so that the configuration takes it as it is.

    Args:
        default: value where the user gives none.
        help: text of `--help`, one or more sentences.
        panel: panel of `--help` that lists the option.
        shown: text that `--help` shows as the default, where the value does not explain itself.
        by_model: True if the user's default is the one of the model (`learn.models.training_defaults`).
        facts: further facts for the command line (see `extra` of `config.section.option`).
        limits: any of `gt`, `ge`, `lt` and `le`.
    """
    extra = {"panel": panel, "shown": shown, "by_model": by_model, **(facts or {})}
    return field(default=default, metadata={"description": help, "json_schema_extra": extra, **limits})


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of local training that a user may choose.

    The configuration has the same names as keys, the plan of a federation carries the options, and so does
    every request to a client. A new option is one field here, and its use.
    """

    local_epochs: int = option(
        1,
        "Epochs that a client trains in a round, or NAME=NUMBER for one modality or client.",
        shown="1",
        ge=1,
        le=10_000,
    )
    batch_size: int = option(
        64, "Images in a step.", shown="64 for densenet-unet, else 16", by_model=True, ge=1, le=65_536
    )
    lr: float = option(
        1e-4,
        "Learning rate, or NAME=RATE for one modality or client.",
        shown="1e-4 for densenet-unet, else 1e-3",
        by_model=True,
        gt=0,
        le=100,
    )
    optimiser: Literal["adam", "adamw", "sgd"] = option("adam", "Optimiser, fresh in every round.")
    weight_decay: float | None = option(
        None, "Weight decay of the optimiser.", shown="0.01 for adamw, else 0", ge=0, le=1
    )
    grad_clip: float | None = option(
        None,
        "Largest L2 norm of all gradients of a step together; longer ones are shortened.",
        shown="no clipping",
        gt=0,
        le=1e9,
    )
    keep_epoch: Literal["auto", "best", "last"] = option(
        "auto",
        "Local epoch to report: the best by the validation patients, or the last; auto is best for a client "
        f"with {ENOUGH_PATIENTS} or more validation patients, else last.",
    )
    loss: str = option(
        "dice-focal",
        "Loss that training minimises: dice-focal, or that of a plug-in.",
        facts={"names": "losses", "metavar": "LOSS"},
    )
    dice_weight: float = option(
        0.3, "Weight of Dice in the loss dice-focal; the rest is the weight of Focal.", ge=0, le=1
    )
    per_pixel_focal: bool = option(
        False, "Compute the Focal loss for each pixel, not on the mean of the batch."
    )
    augment: bool = option(True, "Warp the training images.")
    augmentations: tuple[str, ...] = option(
        (),
        "Change of the training images' intensities after the warp, such as gamma or blur; may be repeated.",
        shown="none",
        facts={"names": "augmentations", "flag": "--augmentation", "metavar": "NAME"},
    )
    norm: Literal["batch", "group", "frozen"] = option(
        "batch",
        "Normalisation of the model: BatchNorm, GroupNorm (which has no statistics of a batch), or BatchNorm "
        "with frozen statistics, as the authors of FLAMES train.",
        MODEL,
    )
    freeze: Literal["none", "encoder"] = option(
        "none",
        "Part of the model that is not trained: encoder keeps its weights and its statistics of BatchNorm as "
        "they were at the start.",
        MODEL,
    )
    proximal_mu: float = option(
        0.01, "Proximal coefficient μ of fedprox (0: plain fedavg).", STRATEGY, ge=0, le=1e6
    )
    precise_norm: bool = option(
        True,
        "Estimate the statistics of BatchNorm on training images after averaging or blending.",
        FEDERATION,
    )


NAME_LISTS = tuple(entry.name for entry in fields(TrainOptions) if get_origin(entry.type) is tuple)
"""Options with several names, which travel as one text with commas."""

BY_MODEL = tuple(
    entry.name for entry in fields(TrainOptions) if entry.metadata["json_schema_extra"]["by_model"]
)
"""Options whose default a user gets from the model; those of `TrainOptions` are densenet-unet's."""

COMPILE = ("auto", "off", "on")
"""Compilation of the model: auto on CUDA if the steps that are left take long enough to pay for it."""

LONGEST_NAME = 40
"""Largest number of characters in a name of a registry."""
MOST_NAMES = 16
"""Largest number of names in one option."""
_NAME = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{LONGEST_NAME - 1}}}")

COMPARE: dict[str, Any] = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def limits_of(entry: Field[Any]) -> dict[str, float]:
    """Return the limits of an option's field, by their names in COMPARE."""
    return {name: entry.metadata[name] for name in COMPARE if name in entry.metadata}


def rejection_reason(options: TrainOptions) -> str:
    """Return which option has a wrong type or is outside its limits, and what was expected; else ""."""
    for entry in fields(TrainOptions):
        value = getattr(options, entry.name)
        if not _has_type(entry.type, value):
            return f"{entry.name} {value!r}, expected {_describe(entry.type)}"
        if not _has_names(entry, value):
            return f"{entry.name} {str(value)[:80]!r}, expected {NAMES_EXPECTED}"
        if value is not None and not _is_within(value, limits := limits_of(entry)):
            expected = " and ".join(f"{WORDS[name]} {limit:g}" for name, limit in limits.items())
            return f"{entry.name} {value!r}, expected {expected}"
    return ""


NAMES_EXPECTED = f"names of at most {LONGEST_NAME} small letters, digits and '-', each once"


def _has_names(entry: Field[Any], value: Any) -> bool:
    """Return whether the value of an option that names entries of a registry has the form of such names.

    Whether a name is known is a question for the registry, which may read the plug-ins of this machine.
    """
    if "names" not in entry.metadata["json_schema_extra"]:
        return True
    names = value if isinstance(value, tuple) else (value,)
    return len({*names}) == len(names) <= MOST_NAMES and all(map(_NAME.fullmatch, names))


def _is_within(value: Any, limits: dict[str, float]) -> bool:
    """Return whether `value` is within `limits`; NaN never is."""
    return all(COMPARE[name](value, limit) for name, limit in limits.items())


def _has_type(kind: Any, value: object) -> bool:
    if isinstance(kind, UnionType):
        return any(_has_type(part, value) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return type(value) is tuple and all(type(part) is str for part in value)
    if get_origin(kind) is Literal:
        return type(value) is str and value in get_args(kind)
    return type(value) is kind or (kind is float and type(value) is int)


def _describe(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(_describe(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return "names"
    return " or ".join(get_args(kind)) if get_origin(kind) is Literal else kind.__name__


@dataclass(frozen=True, slots=True)
class Controls:
    """SCAFFOLD's control variates at the start of a round, by parameter."""

    server: "Weights"
    client: "Weights"


@dataclass(frozen=True, slots=True)
class PluginRule:
    """A local update rule of a plug-in."""

    kind: "type[LocalUpdate]"
    label: str
    """Strategy and package, for messages."""


@dataclass(frozen=True, slots=True)
class LocalRound:
    """One client's round: its place in the run, its options and its input."""

    seed: int
    round: int
    client: str
    options: TrainOptions = TrainOptions()
    rule: str | PluginRule = "plain"
    """Local update rule, which decides what is reported (see `make_local_update`)."""
    rule_state: "Weights | None" = None
    """State of a plug-in's rule after the client's last accepted round; None: there is none."""
    controls: Controls | None = None
    """Control variates, for the rule scaffold."""
    style: "Weights | None" = None
    """Another client's renderer, to draw the images with as well (disentangled models)."""
    offer: "Offer | None" = None
    """Models among which the client chooses its start; None: it has no choice."""
    rounds: int = 0
    """Number of the last round; 0 if it is not known."""
    compile: str = "auto"
    """Compilation of the model by torch: one of COMPILE."""

    @property
    def scope(self) -> tuple[str | int, ...]:
        """Scope of everything that is random in this client's round."""
        return (self.client, self.round)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Weights and numbers that a client reports of the selected epoch."""

    weights: "Weights"
    n_examples: int
    n_steps: int
    """Number of steps that led to these weights."""
    best_epoch: int
    """Number of the selected epoch, from 1."""
    train_loss: float
    """Mean loss over the cases of that epoch."""
    received: "Validation | None"
    """Validation of the model as received, before training; None without validation patients."""
    trained: "Validation | None"
    """Validation of the selected epoch."""
    control_change: "Weights | None" = None
    """Change of the client's control variate, by parameter; with the rule scaffold only."""
    notes: tuple[str, ...] = ()
    """Sentences for the run's log."""
    rule_state: "Weights | None" = None
    """State of a plug-in's rule for the client's next round; None if the rule keeps none."""
