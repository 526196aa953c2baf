"""Initial weights of a model, from ImageNet or from a file."""

import contextlib
import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.densenet_unet import DenseNetUNet
from flames_cli.learn.models.torch_files import check_torch_file
from flames_cli.store.weights import read_safetensors

DOWNLOAD_TIMEOUT_S = 10.0
TORCH_SUFFIXES = (".pth", ".pt")
DENSENET_PARTS = {"encoder1.": "features.denseblock1.", "encoder2.": "features.transition1."}
"""Parts of torchvision's DenseNet121 that the encoder uses: our prefix of the names, and torchvision's."""

_OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_encoder(model: SegmentationModel, encoder_weights: str | Path) -> None:
    """Load initial weights into `model`.

    Args:
        model: the model, changed in place.
        encoder_weights: "none": the model does not change. "imagenet": torchvision's DenseNet121 weights
            IMAGENET1K_V1, downloaded once, for a densenet-unet only. Otherwise the path of a .safetensors,
            .pth or .pt file, which contains either a torchvision densenet121 state dict (for a densenet-unet
            only; its first dense block and transition are used) or a complete state dict of this model.

    Raises:
        FlamesError: the weights cannot be loaded; the model is unchanged.
    """
    source = str(encoder_weights)
    if source == "none":
        return
    found = _imagenet(model) if source == "imagenet" else read_weights(Path(source))
    try:
        weights = _complete(model, found)
        _check_finite(weights)
        load_weights(model, weights)
    except FlamesError as error:
        raise FlamesError(f"encoder weights {source}: {error}") from error


def read_weights(path: Path) -> Weights:
    """Return the state dict in a .safetensors, .pth or .pt file as arrays; no code in the file is run.

    Raises:
        FlamesError: the file is missing, damaged, of another kind, or contains more than tensors.
    """
    if not path.is_file():
        raise FlamesError(
            f"no weights file {path}, expected a .safetensors, .pth or .pt file, 'imagenet' or 'none'; "
            "check --encoder-weights"
        )
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    if path.suffix.lower() in TORCH_SUFFIXES:
        return _read_torch(path)
    raise FlamesError(
        f"weights file {path} ends in {path.suffix!r}, expected .safetensors, .pth or .pt; "
        "check --encoder-weights"
    )


def _read_torch(path: Path) -> Weights:
    try:
        check_torch_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise any exception
        raise FlamesError(
            f"cannot read {path} ({type(error).__name__}), expected a state dict saved by torch.save "
            "with tensors only; save it again, or as .safetensors"
        ) from error
    weights = _as_arrays(state, path)
    # A view of one number can have any shape: code that reads each of its elements would never end.
    claimed, size = sum(array.nbytes for array in weights.values()), path.stat().st_size
    if claimed > size:
        raise FlamesError(
            f"{path} claims {claimed} bytes of weights, expected at most its size of {size} bytes; "
            "save model.state_dict()"
        )
    return weights


def _as_arrays(state: Any, source: Path | str) -> Weights:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FlamesError(
            f"{source} contains no plain state dict, expected tensors by name; save model.state_dict()"
        )
    try:
        return {str(name): tensor.detach().numpy() for name, tensor in state.items()}
    except (RuntimeError, TypeError, ValueError) as error:
        raise FlamesError(
            f"{source} contains a tensor that is not a plain array, expected dense float32 or integers; "
            "save model.state_dict()"
        ) from error


def _complete(model: SegmentationModel, found: Weights) -> Weights:
    """Rename `found` to the model's names; entries that a DenseNet121 does not have are the model's."""
    renamed = {_OLD_SPELLING.sub(r"\1\2", name): array for name, array in found.items()}
    if not any(name.startswith("features.denseblock1.") for name in renamed):
        return renamed
    if not isinstance(model, DenseNetUNet):
        raise FlamesError(
            "got weights of a DenseNet121, expected those of this model; "
            "use --model densenet-unet, or --encoder-weights none"
        )
    weights = to_weights(model)
    for ours, theirs in DENSENET_PARTS.items():
        for name in [name for name in weights if name.startswith(ours)]:
            weights[name] = _entry_of(renamed, theirs + name.removeprefix(ours), default=weights[name])
    return weights


def _entry_of(found: Weights, name: str, default: Any) -> Any:
    # Files from before torch 0.4.1 have no such counters; ImageNet's is one of them.
    if name not in found and name.endswith(".num_batches_tracked"):
        return default
    if name not in found:
        raise FlamesError(
            f"{name} is missing, expected a complete torchvision densenet121 state dict; save it again"
        )
    return found[name]


def _check_finite(weights: Weights) -> None:
    for name, array in weights.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FlamesError(
                f"{name} is not finite, expected weights without NaN or infinity; use another file"
            )


def _imagenet(model: SegmentationModel) -> Weights:
    if not isinstance(model, DenseNetUNet):
        raise FlamesError(
            "this model has no ImageNet weights, expected densenet-unet; use --encoder-weights none, "
            "or a FILE with a complete state dict of this model"
        )
    from torchvision.models import DenseNet121_Weights  # here because torchvision takes seconds to import

    imagenet = DenseNet121_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / imagenet.url.rpartition("/")[2]
    if cached.is_file():
        return _read_torch(cached)
    try:
        with _download_limits():
            state = imagenet.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # sockets, HTTP, TLS, the hash and the disk raise different exceptions
        raise FlamesError(_no_imagenet(cached, error)) from error
    return _as_arrays(state, cached)


def _no_imagenet(cached: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"cannot download the ImageNet weights ({reason}); put {cached.name} into {cached.parent}, "
        "or use --encoder-weights FILE (.safetensors, .pth or .pt), or --encoder-weights none"
    )


@contextlib.contextmanager
def _download_limits() -> Iterator[None]:
    """Set a short timeout for every new socket and suppress torch.hub's message on standard output."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
