"""`flames models rm`: model folders are deleted with all of their files."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flames_cli.stages.models.listing import ModelEntry, read_entry, require_names
from flames_cli.store.files.atomic import raising_not_written, remove_folder
from flames_cli.store.files.locks import locked
from flames_cli.store.workspace import model_folder


def plan_removal(workspace: Path, names: Sequence[str]) -> list[ModelEntry]:
    """Return the models of the workspace with these names, each once.

    Raises:
        MissingArtifact: there is no model of a name.
    """
    wanted = sorted(set(names))
    require_names(workspace, wanted)
    return [read_entry(model_folder(workspace, name)) for name in wanted]


def remove_models(models: Sequence[ModelEntry]) -> None:
    """Delete the folders of all models, or none if a process writes one of them.

    Raises:
        FlamesError: a process writes one, or a folder cannot be deleted.
    """
    with ExitStack() as held:
        for model in models:
            busy = f"another process writes model '{model.name}', and no model was removed; wait for its end"
            held.enter_context(locked(model.folder, busy))
        for model in models:
            with raising_not_written(model.folder):
                remove_folder(model.folder)
