"""Weights to start from: ImageNet's, or those of a file."""

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
"""Which parts of torchvision's DenseNet121 the encoder takes, by the prefix of their names."""

_OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_encoder(model: SegmentationModel, encoder_weights: str | Path) -> None:
    """Give `model` weights to start from.

    encoder_weights: "none" leaves the model as it is. "imagenet" takes DenseNet121's (torchvision,
    IMAGENET1K_V1; downloaded once, a densenet-unet only). Anything else is a .safetensors, .pth or .pt file:
    a torchvision densenet121 state dict (a densenet-unet only; its first dense block and transition are
    taken) or a whole state dict of this model. Raises FlamesError, and leaves the model unchanged, where
    that fails.
    """
    source = str(encoder_weights)
    if source == "none":
        return
    found = _imagenet(model) if source == "imagenet" else read_weights(Path(source))
    try:
        weights = _completed(model, found)
        _check_finite(weights)
        load_weights(model, weights)
    except FlamesError as error:
        raise FlamesError(f"encoder weights {source}: {error}") from error


def read_weights(path: Path) -> Weights:
    """The state dict in a .safetensors, .pth or .pt file, as arrays; no code in the file is ever run.

    Raises FlamesError where the file is missing, damaged, of another kind, or holds more than tensors.
    """
    if not path.is_file():
        raise FlamesError(
            f"no weights file {path}: expected a .safetensors, .pth or .pt file, 'imagenet' or 'none'"
        )
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    if path.suffix.lower() in TORCH_SUFFIXES:
        return _read_torch(path)
    raise FlamesError(f"weights file {path} ends in {path.suffix!r}: expected .safetensors, .pth or .pt")


def _read_torch(path: Path) -> Weights:
    try:
        check_torch_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can fail in any way at all
        raise FlamesError(
            f"cannot read {path} ({type(error).__name__}): expected a state dict saved by torch.save, "
            "holding tensors only; save it again, or as .safetensors"
        ) from error
    weights = _as_arrays(state, path)
    # A view of one number may claim to be of any shape; what looks at each of them would never end.
    claimed, held = sum(array.nbytes for array in weights.values()), path.stat().st_size
    if claimed > held:
        raise FlamesError(f"{path} claims {claimed} bytes of weights, it has {held}; save model.state_dict()")
    return weights


def _as_arrays(state: Any, source: Path | str) -> Weights:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FlamesError(
            f"{source} holds no plain state dict: expected tensors by name; save model.state_dict()"
        )
    try:
        return {str(name): tensor.detach().numpy() for name, tensor in state.items()}
    except (RuntimeError, TypeError, ValueError) as error:
        raise FlamesError(
            f"{source} holds a tensor that is not a plain array: expected dense float32 or integers"
        ) from error


def _completed(model: SegmentationModel, found: Weights) -> Weights:
    """`found` under the model's names; where it is a DenseNet121, the rest stays as the model has it."""
    renamed = {_OLD_SPELLING.sub(r"\1\2", name): array for name, array in found.items()}
    if not any(name.startswith("features.denseblock1.") for name in renamed):
        return renamed
    if not isinstance(model, DenseNetUNet):
        raise FlamesError(
            "these are of a DenseNet121: only a densenet-unet takes them; use 'none' for this model"
        )
    weights = to_weights(model)
    for ours, theirs in DENSENET_PARTS.items():
        for name in [name for name in weights if name.startswith(ours)]:
            weights[name] = _taken(renamed, theirs + name.removeprefix(ours), default=weights[name])
    return weights


def _taken(found: Weights, name: str, default: Any) -> Any:
    # Files from before torch 0.4.1, ImageNet's among them, have no such counters.
    if name not in found and name.endswith(".num_batches_tracked"):
        return default
    if name not in found:
        raise FlamesError(f"missing {name}: expected a whole torchvision densenet121 state dict")
    return found[name]


def _check_finite(weights: Weights) -> None:
    for name, array in weights.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FlamesError(f"{name} is not finite: expected trained weights without NaN or infinity")


def _imagenet(model: SegmentationModel) -> Weights:
    if not isinstance(model, DenseNetUNet):
        raise FlamesError(
            "this model has no ImageNet weights (only densenet-unet has): use --encoder-weights none, "
            "or a FILE with a whole state dict of it"
        )
    from torchvision.models import DenseNet121_Weights  # here because torchvision takes seconds to import

    imagenet = DenseNet121_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / imagenet.url.rpartition("/")[2]
    if cached.is_file():
        return _read_torch(cached)
    try:
        with _download_limits():
            state = imagenet.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # sockets, HTTP, TLS, the hash and the disk fail in as many ways
        raise FlamesError(_no_imagenet(cached, error)) from error
    return _as_arrays(state, cached)


def _no_imagenet(cached: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"cannot download the ImageNet weights ({reason}): put {cached.name} into {cached.parent}, "
        "or use --encoder-weights FILE (.safetensors, .pth or .pt), or --encoder-weights none"
    )


@contextlib.contextmanager
def _download_limits() -> Iterator[None]:
    """A short timeout on every new socket, and standard output kept clean of torch.hub's notice."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
