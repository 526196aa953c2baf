"""`flames models add`: install a model that comes from elsewhere, and is not trusted."""

import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.config import MAX_NAME, NAME_PATTERN
from flames_cli.core.federated.reports import find_negative_variance, find_not_finite
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.report.model_card import write_card
from flames_cli.stages.models.weights_files import SUFFIXES, WeightsFacts, is_weights_file, read_weights_file
from flames_cli.store.files.atomic import TEMPORARY, raising_not_written
from flames_cli.store.files.locks import locked
from flames_cli.store.model_archives import unpack_model
from flames_cli.store.models import CARD, MOST_BYTES, ModelInfo, find_same, read_model, write_model
from flames_cli.store.workspace import model_folder

ARCHIVE = ".zip"


@dataclass(frozen=True, slots=True)
class Added:
    """A model that was installed, or that was there already."""

    folder: Path
    info: ModelInfo
    is_new: bool = True
    """False if the same model was there already."""


def add_model(workspace: Path, source: Path, name: str | None = None) -> Added:
    """Install the model in a zip file or a folder under its own name, or under `name`.

    The files are read, checked and written again: only numbers, and texts that were checked, get into the
    workspace. Nothing else of the source is read, and nothing is written outside of `models/`.

    Raises:
        MissingArtifact: there is no such file or folder.
        FlamesError: it is not a model, its weights do not fit its architecture or are not finite, its name is
            not one of a folder, or another model of this name is there.
        NotWritten: the disk is full.
    """
    if is_weights_file(source):
        raise FlamesError(
            f"{source} is a file of weights, which does not say what it is; pass --architecture, --modality "
            "and --size, such as --architecture densenet-unet --modality MRI --size 240"
        )
    with _opened(workspace, source) as folder:
        try:
            info, weights = read_model(folder)
        except FlamesError as error:
            # The folder may be a temporary one, which the user never sees.
            error.args = (str(error).replace(str(folder), str(source)),)
            raise
        card = _read_card(folder / CARD)
    _check_weights(source, info, weights)
    info = replace(info, name=_checked_name(name or info.name), sha256="")
    return _install(workspace, info, weights, card)


def add_weights(workspace: Path, source: Path, facts: WeightsFacts, name: str | None = None) -> Added:
    """Install the model in a file of weights of another program, under `name` or the name of the file.

    Raises:
        FlamesError: the file cannot be read, its weights do not fit the architecture or cannot be used, its
            name is not one of a folder, or another model of this name is there.
        NotWritten: the disk is full.
    """
    if not is_weights_file(source):
        raise FlamesError(
            f"{source} is no file of weights, expected its name to end with {', '.join(SUFFIXES)}; leave "
            "--architecture out for a zip file or a folder, which says what it is"
        )
    info, weights = read_weights_file(source, facts, _checked_name(name or source.stem))
    return _install(workspace, info, weights, write_card(info))


def _install(workspace: Path, info: ModelInfo, weights: Weights, card: str) -> Added:
    target = model_folder(workspace, info.name)
    busy = f"another process writes model '{info.name}'; wait for its end, or pass another --name"
    with locked(target, busy):
        if found := find_same(target, info, weights, card):
            return Added(target, found, is_new=False)
        if target.exists():
            raise FlamesError(
                f"{target} exists already and is another model; pass --name to install this one under "
                f"another name, or remove the other one with `flames models rm {info.name}`"
            )
        return Added(target, write_model(target, info, weights, card))


@contextmanager
def _opened(workspace: Path, source: Path) -> Iterator[Path]:
    """Give a folder with the files of the model: the source itself, or a temporary folder in `models/`, which
    is deleted afterwards."""
    if source.is_dir():
        _check_folder(source)
        yield source
        return
    if not source.exists():
        raise MissingArtifact(
            f"no file {source}, expected the zip file or the folder of a model; make one with "
            "`flames export --zip`"
        )
    if not source.is_file() or source.suffix.lower() != ARCHIVE:
        raise FlamesError(
            f"{source} is not a zip file (its name ends with {source.suffix[:20]!r}), expected the zip file "
            "or the folder of a model; make one with `flames export --zip`"
        )
    models = model_folder(workspace, "").absolute()
    was_there = models.is_dir()
    folder = models / f".added-{uuid.uuid4().hex}{TEMPORARY}"
    try:
        with raising_not_written(folder):
            folder.mkdir(parents=True)
            unpack_model(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not was_there:
            with suppress(OSError):  # it is not empty
                models.rmdir()


def _check_folder(folder: Path) -> None:
    """Check that the files of a model are usual files of usual sizes; other files are not read.

    Raises:
        FlamesError: one is missing, too large, or a link or a device.
    """
    for name, most in MOST_BYTES.items():
        try:
            found = (folder / name).lstat()
        except OSError as error:
            raise FlamesError(
                f"{folder} has no {name}, expected a model folder with {', '.join(MOST_BYTES)}; copy the "
                "complete folder"
            ) from error
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise FlamesError(
                f"{folder / name} is not a usual file of at most {most} bytes, expected a file of a model; "
                "copy the complete folder"
            )


def _read_card(path: Path) -> str:
    """Return the model card, with ? for characters that would control a terminal or an editor."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _check_weights(source: Path, info: ModelInfo, weights: Weights) -> None:
    """Check that the weights fit the architecture, before any memory is allocated for it, and are usable.

    Raises:
        FlamesError: they do not fit, or are not finite.
    """
    # Imported here, since it imports torch, which takes seconds: a file that is no model is rejected before.
    from flames_cli.learn.use import check_model

    check_model(info, weights)
    variances = {entry for entry in weights if entry.endswith(".running_var")}
    if fault := find_not_finite(weights) or find_negative_variance(weights, variances):
        raise FlamesError(
            f"{source} has weights that cannot be used ({fault}), expected finite weights; ask its author "
            "for it again"
        )


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise FlamesError(
            f"the model is called {name[:80]!a}, expected a name of at most {MAX_NAME} letters, digits, '.', "
            "'_' and '-' that begins with a letter or digit; pass such a --name"
        )
    return name
