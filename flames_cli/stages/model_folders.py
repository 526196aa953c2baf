"""Model folders by their path, or by their name in models/ of the workspace."""

from pathlib import Path

from flames_cli.errors import MissingArtifact
from flames_cli.store.models import INFO
from flames_cli.store.workspace import model_folder


def find_model_folder(workspace: Path, named: str) -> Path:
    """Return the model folder with this path, or with this name in models/.

    Raises:
        MissingArtifact: there is none; the message lists the existing names.
    """
    own = model_folder(workspace, named)
    for folder in (Path(named), own):
        if (folder / INFO).is_file():
            return folder
    names = sorted(path.parent.name for path in model_folder(workspace, "*").parent.glob(f"*/{INFO}"))
    raise MissingArtifact(
        f"no model '{named}': expected a folder with {INFO}, or the name of one in "
        f"{own.parent} ({', '.join(names) or 'which has none'}); make one with `flames export`, or "
        "install one with `flames models add`"
    )
