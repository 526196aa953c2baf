"""Description of the entries of a model's state dict, for code that works on arrays only."""

from typing import Literal

from flames_cli.core.federated.reports import Entries
from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.freezing import frozen_entries
from flames_cli.learn.models.norms import is_norm


def describe_entries(
    model: SegmentationModel,
    share: Literal["all", "content"] = "all",
    lend_style: bool = False,
    freeze: str = "none",
) -> Entries:
    """Return which entries are parameters, of normalisation layers, shared, or part of the renderer.

    Args:
        model: the model to describe.
        share: "all": clients report all entries; "content": style entries stay at the client.
        lend_style: clients also exchange their renderers.
        freeze: part of the model that is not trained, "none" or "encoder".

    Raises:
        FlamesError: the model does not separate content from style, but `share` or `lend_style` need it; or
            it does not say which entries its encoder has.
    """
    if (share == "content" or lend_style) and not model.style_entries():
        what = "share its content only" if share == "content" else "lend its style"
        raise FlamesError(
            f"this model cannot {what}, expected one that separates content from style; "
            "use --model sd-utnet or sdnet"
        )
    names = frozenset(model.state_dict())
    trainable = frozenset(name for name, _ in model.named_parameters())
    norm = {
        f"{part}.{entry}" if part else entry
        for part, module in model.network.named_modules()
        if is_norm(module)
        for entry in module.state_dict()
    }
    variances = frozenset(name for name in norm if name.rpartition(".")[2] == "running_var")
    shared = names - model.style_entries() if share == "content" else None
    style = model.renderer_entries() if lend_style else frozenset()
    if shared is not None:
        trainable &= shared
    kept = frozen_entries(model, freeze)
    return Entries(trainable - kept, frozenset(norm), shared, style, variances, kept)
