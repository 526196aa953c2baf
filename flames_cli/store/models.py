"""Model folders: the weights of one model, and all that is needed to use it on new images.

`models/NAME/` has `weights.safetensors`, `model.toml`, and `README.md`, a model card for people.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from pydantic import TypeAdapter, ValidationError

from flames_cli.arrays import Weights
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import Preparation
from flames_cli.core.imaging.volumes import PLANES
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.atomic import replacing_folder, write_text
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.parse import MOST_DOTS, parse_toml, read_text
from flames_cli.store.schema import MODEL, check_stamp, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INFO, WEIGHTS, CARD = "model.toml", "weights.safetensors", "README.md"
"""Names of the files in a model folder."""

MOST_BYTES = {INFO: 2**18, CARD: 2**20, WEIGHTS: 2**32}
"""Largest sizes of the files; the largest U-Net that FLAMES builds has 2 GiB."""

LONGEST_TEXT, MOST_ITEMS = 1000, 2000
"""Limits of a text, in characters, and of a list or table in model.toml."""

TEXTS_OF_A_LINE = 3
"""Largest number of texts in a line of model.toml, which may have MOST_DOTS dots."""

PLUGIN = re.compile(r"\w[\w .-]{0,99} [A-Za-z0-9][\w.+!:-]{0,99}")
"""Pattern of a plug-in's package (or the name of its file) and version."""

LARGEST_SIZE = 8192
"""Largest side of the images of a model, in pixels."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Architecture of a model: the arguments of `learn.models.build_model`."""

    model: str
    """Name of the model, such as densenet-unet."""
    norm: str = "batch"
    """Normalisation layers: batch, group or frozen."""
    options: dict[str, int | float | str] = field(default_factory=dict)
    plugin: str | None = None
    """Package and version of the plug-in that gives the model, such as `some-nets 0.1`; None: built in."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Images that the model is for, and how they are prepared."""

    modality: str
    organs: tuple[str, ...]
    size: int
    """Side of the square images, in pixels."""
    channels: int = 1
    """1 for grey, 3 for red, green and blue."""
    plane: str = "axial"
    """Plane of the slices of volumes."""
    mask_resize: Literal["aligned", "paper"] = "aligned"
    """Method by which the masks of its training images were resized."""
    intensities: tuple[IntensityRule, ...] = ()
    """Rules of its training images, each once; empty: not known."""


def describe_input(
    modality: str, organs: tuple[str, ...], size: int, channels: int, prepared: Sequence[Preparation]
) -> ModelInput:
    """Return the images that a model is for, from how its clients prepared theirs."""
    return ModelInput(
        modality=modality,
        organs=organs,
        size=size,
        channels=channels,
        plane=next((plane for one in prepared for plane in one.planes), "axial"),
        mask_resize=next((resize for one in prepared for resize in one.mask_resize), "aligned"),
        intensities=tuple(dict.fromkeys(rule for one in prepared for rule in one.intensities)),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """Ranges of the training images, from the 1st to the 99th percentile over images; images outside of them
    are unlike those that the model has seen."""

    n_images: int
    rows: tuple[float, float]
    """Rows of an image before it was made square."""
    columns: tuple[float, float]
    mean: tuple[float, float]
    """Mean intensity of a prepared image, in [0, 1]."""
    deviation: tuple[float, float]
    """Standard deviation of the intensities of a prepared image."""
    black: tuple[float, float]
    """Share of the pixels of a prepared image that are 0."""
    pixel_mm: tuple[float, float] | None = None
    """Side of a pixel of the raw image, mm; None: not known."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """Number of training images and patients of one client; no patient is named."""

    client: str
    modality: str
    organ: str
    patients: int
    """0: not known."""
    images: int


@dataclass(frozen=True, slots=True)
class Base:
    """The model from which an adapted one was made, and the choice between the two."""

    name: str
    sha256: str
    """SHA-256 of its weights."""
    origin: str
    """Its own origin, in a few words."""
    share: float
    """Share of the fine-tuned weights in the adapted ones: 1 for the fine-tuned model, 0 for its base."""
    why: str
    """Reason for the share."""
    epochs: int
    """Number of epochs that led to the fine-tuned weights."""
    lr: float
    freeze: str = "none"
    """Part that was not trained."""
    candidate: str = ""
    """Name of the chosen candidate."""
    test: dict[str, float] = field(default_factory=dict)
    """Test of both models on the client's test patients, by name: dice, dice_as_it_is, volumes or images,
    patients; empty without a test set."""
    partitions: tuple[str, ...] = ()
    """SHA-256 of the partitions on whose patients the base and the adapted model were trained."""
    unknown: str = ""
    """Reason why some of these patients are not known; empty: all are."""


@dataclass(frozen=True, slots=True)
class Training:
    """Origin of a model: its run, its round, and its data."""

    kind: Literal["client", "server", "file", "adapted"]
    """A client's personalised model, a model of the server, weights from a file of another tool, or a model
    that was adapted to one client's images."""
    run: str = ""
    client: str = ""
    """The client whose personalised model it is."""
    strategy: str = ""
    round: int = 0
    rounds: int = 0
    """Number of rounds of the run."""
    why: str = ""
    """Reason for the round."""
    seed: int = 0
    clients: tuple[TrainedOn, ...] = ()
    """Clients whose data trained it; empty with differential privacy, which does not cover such counts. The
    folder that a node keeps names its own client only."""
    token: str = ""
    """Token of the run, 16 hex digits, which differs between runs of one name; empty: not known."""
    plugins: tuple[str, ...] | None = None
    """Plug-ins that took part, such as `strategies/own flames-example 0.1`; None: there were none."""
    start: str | None = None
    """The weights from which its run started, in a few words; None: no other model's."""
    base: Base | None = None
    """The model from which an adapted one was made; None: it was not adapted."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Content of model.toml."""

    name: str
    architecture: Architecture
    input: ModelInput
    training: Training
    threshold: float = 0.5
    """Probability above which a pixel is tumour."""
    validation: dict[str, float] = field(default_factory=dict)
    """Validation of the model, by name: dice, patients, images."""
    privacy: dict[str, float] = field(default_factory=dict)
    """Differential privacy spent: epsilon and delta; empty without."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of FLAMES, Python, torch and numpy that made it."""
    licence: str = ""
    """Licence, as the user stated it; empty: not stated."""
    seen: Seen | None = None
    """Ranges of the training images; None: not known."""
    sha256: str = ""
    """SHA-256 of the file with the weights; set by `write_model`."""


def write_model(folder: Path, info: ModelInfo, weights: Weights, card: str) -> ModelInfo:
    """Write a new model folder, completely or not at all, and return its content.

    Args:
        folder: the new folder.
        info: the model; its checksum is set here.
        weights: arrays by name, with the statistics of its normalisation.
        card: text of README.md.

    Raises:
        FlamesError: `info` has an impossible entry, with which no command would read the folder.
        NotWritten: the disk is full.
    """
    try:
        _check(info)
    except ValueError as error:
        raise FlamesError(
            f"the model cannot be written ({error}), expected usual numbers, and texts of at most "
            f"{LONGEST_TEXT} characters without control characters; correct the name or option that has it"
        ) from error
    with replacing_folder(folder) as new:
        write_safetensors(new / WEIGHTS, weights)
        made = replace(info, sha256=hash_file(new / WEIGHTS))
        write_text(new / INFO, tomli_w.dumps({**stamp(MODEL), **_without_none(asdict(made))}))
        write_text(new / CARD, card)
    return made


def read_model_info(folder: Path) -> ModelInfo:
    """Return the content of model.toml; the weights are not read.

    Raises:
        MissingArtifact: the folder has no model.toml.
        FlamesError: it cannot be read, or has another format or version.
    """
    path = folder / INFO
    if not path.is_file():
        raise MissingArtifact(
            f"no model.toml in {folder}, expected a model folder; make one with `flames export`, or "
            "install one with `flames models add`"
        )
    try:
        if (size := path.stat().st_size) > MOST_BYTES[INFO]:
            raise ValueError(f"it has {size} bytes, expected at most {MOST_BYTES[INFO]}")
        content = parse_toml(read_text(path))
        check_stamp(content, MODEL, path)
        info = _form().validate_json(json.dumps(content), strict=True)
        _check(info)
        return info
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise FlamesError(f"{path} has wrong entries ({found}); export the model again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); export the model again") from error


def read_model(folder: Path) -> tuple[ModelInfo, Weights]:
    """Return a model and its weights.

    Raises:
        MissingArtifact: the folder has no model.toml.
        FlamesError: a file is missing or damaged, or the weights have another checksum than model.toml says.
    """
    info, path = read_model_info(folder), folder / WEIGHTS
    if path.is_file() and (size := path.stat().st_size) > MOST_BYTES[WEIGHTS]:
        raise FlamesError(
            f"{path} has {size} bytes, expected at most {MOST_BYTES[WEIGHTS]}; copy the folder again"
        )
    if path.is_file() and hash_file(path) != info.sha256:
        raise FlamesError(
            f"{path} is not the file that model.toml describes (its checksum differs); copy the folder again"
        )
    return info, read_safetensors(path)


def find_same(folder: Path, info: ModelInfo, weights: Weights, card: str) -> ModelInfo | None:
    """Return the description of the model in `folder` if it is this model, with the same card; None if it is
    another, or damaged, or there is none.

    `info` has no checksum: the weights themselves are compared.
    """
    try:
        found, stored = read_model(folder)
        same_card = (folder / CARD).read_text(encoding="utf-8") == card
    except (FlamesError, OSError, ValueError):
        return None
    same = same_card and replace(found, sha256="") == info and list(stored) == list(weights)
    return found if same and all(_equal(stored[name], array) for name, array in weights.items()) else None


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def _check(info: ModelInfo) -> None:
    """Check that every entry is possible, since a model may come from another machine.

    Raises:
        ValueError: an entry is impossible; the message names it.
    """
    _check_values("model", asdict(info))
    Preparation(info.input.intensities)
    image, training = info.input, info.training
    wrong = {
        "threshold": not 0 < info.threshold < 1,
        "input.size": not 1 <= image.size <= LARGEST_SIZE,
        "input.channels": image.channels not in (1, 3),
        "input.plane": image.plane not in PLANES,
        "training.round": min(training.round, training.rounds) < 0,
        "training.clients": any(min(one.patients, one.images) < 0 for one in training.clients),
        "validation": any(number < 0 for number in info.validation.values()),
        "privacy": any(number < 0 for number in info.privacy.values()),
    }
    if (plugin := info.architecture.plugin) is not None:
        # Messages name it in a command that installs it: no character of a shell may be part of it.
        wrong["architecture.plugin"] = not PLUGIN.fullmatch(plugin)
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise ValueError(f"{found[0]} is not possible")


def _check_values(name: str, value: Any) -> None:
    """Check the texts and numbers in `value`, and the lengths of lists and tables."""
    if isinstance(value, dict | list | tuple):
        if len(value) > MOST_ITEMS:
            raise ValueError(f"{name} has {len(value)} entries, expected at most {MOST_ITEMS}")
        named = value.items() if isinstance(value, dict) else ((name, item) for item in value)
        for key, item in named:
            _check_values(name, key)
            _check_values(str(key), item)
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
        raise ValueError(f"{name[:40]!a} is too long or has control characters")
    if isinstance(value, str) and value.count(".") > MOST_DOTS // TEXTS_OF_A_LINE:
        raise ValueError(f"{name[:40]!a} has too many dots")
    if isinstance(value, int | float) and not -1e18 < value < 1e18:
        raise ValueError(f"{name[:40]!a} is not a usual number")


@cache
def _form() -> TypeAdapter[ModelInfo]:
    return TypeAdapter(ModelInfo)


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table without the entries that are None, which TOML does not have."""
    return {key: _cleaned(value) for key, value in table.items() if value is not None}


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_none(value)
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
