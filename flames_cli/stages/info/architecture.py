"""`flames info --model`: the architecture of a model as a table."""

from collections.abc import Mapping

from flames_cli.errors import FlamesError
from flames_cli.learn.models.describe import ArchitectureTable, describe_architecture
from flames_cli.stages.models.weights_files import NORMS


def describe_model(
    model: str, size: int, channels: int, norm: str, options: Mapping[str, int | float | str]
) -> ArchitectureTable:
    """Return the stages of a model for images of `size`×`size` pixels.

    Raises:
        FlamesError: an unknown model, norm, option or number of channels, or images that are too small.
    """
    if norm not in NORMS:
        raise FlamesError(f"got --norm {norm}, expected one of {', '.join(NORMS)}; change --norm")
    if channels not in (1, 3):
        raise FlamesError(f"got --channels {channels}, expected 1 (grey) or 3 (colour); change --channels")
    return describe_architecture(model, size, channels, norm, options)
