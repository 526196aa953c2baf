"""Initial weights of a model, from ImageNet or from a file."""

import contextlib
import io
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.learn.models import build_model, check_options
from flames_cli.learn.models.arrays import check_fit, load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.densenet_unet import DenseNetUNet
from flames_cli.learn.models.torch_files import check_torch_file
from flames_cli.store.weights import read_safetensors

DOWNLOAD_TIMEOUT_S = 10.0
TORCH_SUFFIXES = (".pth", ".pt")
PARALLEL = "module."
"""Prefix of all names in a state dict of torch's DataParallel."""
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


def read_complete(path: Path, model: str, norm: str, options: Mapping[str, Any]) -> Weights:
    """Return the weights of a complete model from a .safetensors, .pth or .pt file of any program.

    The checkpoints of the FLAMES authors have the names of our densenet-unet. Names with the prefix
    `module.`, which torch's DataParallel adds, are accepted. Names and shapes are checked before memory is
    allocated for the model.

    Args:
        path: the file; no code in it is run.
        model: a name in MODELS.
        norm: normalisation layers, batch, group or frozen.
        options: options of the model, in_channels included.

    Raises:
        FlamesError: the file cannot be read, has weights of another model, or numbers that are not finite.
    """
    found = _plain_names(read_weights(path, "the file"))
    try:
        check_options(model, options)
        with torch.device("meta"):
            check_fit(build_model(model, norm=norm, **options), found)
        _check_finite(found)
        built = build_model(model, seed=0, norm=norm, **options)
        load_weights(built, found)
    except FlamesError as error:
        raise FlamesError(f"weights of {path} for model {model}: {error}") from error
    return to_weights(built)


def _plain_names(found: Weights) -> Weights:
    """Return the weights without the prefix of torch's DataParallel, and in today's spelling."""
    prefix = PARALLEL if found and all(name.startswith(PARALLEL) for name in found) else ""
    return {_OLD_SPELLING.sub(r"\1\2", name.removeprefix(prefix)): array for name, array in found.items()}


def read_weights(path: Path, check: str = "--encoder-weights") -> Weights:
    """Return the state dict in a .safetensors, .pth or .pt file as arrays; no code in the file is run.

    Args:
        path: the file.
        check: the option that names it, for messages.

    Raises:
        FlamesError: the file is missing, damaged, of another kind, or contains more than tensors.
    """
    if not path.is_file():
        other = ", 'imagenet' or 'none'" if check == "--encoder-weights" else ""
        raise FlamesError(
            f"no weights file {path}, expected a .safetensors, .pth or .pt file{other}; check {check}"
        )
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    if path.suffix.lower() in TORCH_SUFFIXES:
        return _read_torch(path)
    raise FlamesError(
        f"weights file {path} ends in {path.suffix!r}, expected .safetensors, .pth or .pt; check {check}"
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
