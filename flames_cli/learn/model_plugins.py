"""The plug-in that the model of a folder needs. No file of a plug-in is loaded because a folder names it."""

from flames_cli.plugins import require_plugins
from flames_cli.store.models import ModelInfo


def require_model_plugin(info: ModelInfo) -> list[str]:
    """Check that the plug-in of a model's architecture is there; return a note if it is another version.

    Raises:
        FlamesError: it is not installed, or its file is not named on this machine.
    """
    made = info.architecture
    if made.plugin is None:
        return []
    return require_plugins([f"models/{made.model} {made.plugin}"], f"model '{info.name}'")
