"""`flames models list` and `show`: the model folders of a workspace."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.models import INFO, ModelInfo, read_model_info
from flames_cli.store.workspace import model_folder


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One folder with a model.toml, as far as it can be read."""

    name: str
    """Name of the folder."""
    folder: Path
    info: ModelInfo | None
    """None: it is damaged."""
    size_bytes: int
    damage: str = ""
    """Description of what is wrong with model.toml; empty: nothing was found. The weights are not read."""

    def as_json(self) -> dict[str, Any]:
        """Return the entry for --json."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "bytes": self.size_bytes,
            "damage": self.damage,
            "model": asdict(self.info) if self.info else None,
        }


def list_names(workspace: Path) -> list[str]:
    """Return the names of the model folders of a workspace, in order."""
    found = (path.parent.name for path in model_folder(workspace, "").glob(f"*/{INFO}"))
    return sorted(name for name in found if not name.startswith("."))


def list_entries(workspace: Path) -> list[ModelEntry]:
    """Return the model folders of a workspace by name, damaged ones included."""
    return [read_entry(model_folder(workspace, name)) for name in list_names(workspace)]


def find_entry(workspace: Path, named: str) -> ModelEntry:
    """Return the model in the folder `named`, or the one of this name in the workspace.

    Raises:
        MissingArtifact: there is none.
        FlamesError: its description cannot be read.
    """
    folder = Path(named)
    if not (folder / INFO).is_file():
        require_names(workspace, [named])
        folder = model_folder(workspace, named)
    read_model_info(folder)
    return read_entry(folder)


def require_names(workspace: Path, names: list[str]) -> None:
    """Check that every name is that of a model folder of the workspace.

    Raises:
        MissingArtifact: one is not.
    """
    known = list_names(workspace)
    for name in names:
        if name not in known:
            raise MissingArtifact(
                f"no model '{name}' in {model_folder(workspace, '')}, expected one of "
                f"{', '.join(known) or '(none)'}; `flames models list` lists them"
            )


def read_entry(folder: Path) -> ModelEntry:
    """Return a model folder, as far as it can be read."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        return ModelEntry(folder.name, folder, read_model_info(folder), size)
    except FlamesError as error:
        return ModelEntry(folder.name, folder, None, size, str(error))
