"""Model folders that a node keeps in its site's directory: SITE/models/RUN/."""

from contextlib import suppress
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import remove_folder, remove_leftovers
from flames_cli.store.files.locks import locked
from flames_cli.store.models import ModelInfo, read_model, read_model_info, write_model
from flames_cli.store.weights import hash_weights

BEST_SO_FAR = "-best-so-far"
"""End of the name of the folder with the best model while a run has not ended."""


def keep_model(
    models: Path, name: str, info: ModelInfo, weights: Weights, card: str, provisional: bool = False
) -> tuple[Path, str]:
    """Write the folder MODELS/NAME, and return it with the new name of an earlier folder (empty: none).

    A folder with the same model stays as it is. Another one is renamed, unless it and the new one are
    provisional and of the same run, as their token says: then the new one takes its place.

    Raises:
        FlamesError: another process writes the folder.
        NotWritten: the disk is full.
    """
    folder, aside = models / name, ""
    with locked(folder, f"another process writes {folder}; run one node for each site"):
        remove_leftovers(models, f"{name}*")
        before = read_kept(models, name)
        same_run = before is not None and before.training.token == info.training.token
        if same_run and _is_same(folder, info, weights):
            return folder, ""
        if not (provisional and same_run) and (renamed := set_aside(folder)):
            aside = renamed.name
        write_model(folder, info, weights, card)
    return folder, aside


def read_kept(models: Path, name: str) -> ModelInfo | None:
    """Return the description of the model in MODELS/NAME; None if there is none that can be read."""
    with suppress(FlamesError):
        return read_model_info(models / name)
    return None


def remove_best_so_far(models: Path, run: str, token: str) -> None:
    """Delete the folder of the best model so far of a run, after its final model was kept."""
    name = f"{run}{BEST_SO_FAR}"
    found = read_kept(models, name)
    if found is not None and found.training.token == token:
        with suppress(OSError):
            remove_folder(models / name)


def _is_same(folder: Path, info: ModelInfo, weights: Weights) -> bool:
    try:
        found, stored = read_model(folder)
    except FlamesError:
        return False
    return found.training.round == info.training.round and hash_weights(stored) == hash_weights(weights)
