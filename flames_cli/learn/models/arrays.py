"""Conversion of a model's state dict to numpy arrays and back."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError

_NUMERIC_KINDS = "biuf"


def to_weights(model: nn.Module) -> Weights:
    """Copy every parameter and buffer to the CPU, C-contiguous, in state-dict order, with its own dtype."""
    state = model.state_dict()
    if any(tensor.is_cuda for tensor in state.values()):
        return fetch(state)
    return {name: _copy(tensor) for name, tensor in state.items()}


def fetch(state: Mapping[str, Tensor]) -> Weights:
    """Copy tensors of one device to the CPU, in one piece for each dtype, and return them as arrays.

    Copying each tensor by itself waits for the device as many times. On CUDA the piece is pinned memory,
    which torch uses again after the last array is gone.
    """
    found: Weights = {}
    for names in _by_dtype(state):
        flat = torch.cat([state[name].detach().reshape(-1) for name in names])
        pinned = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=flat.is_cuda)
        piece = pinned.copy_(flat).numpy()
        found |= dict(zip(names, _divide(piece, [state[name] for name in names]), strict=True))
    return {name: found[name] for name in state}


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into `model` and cast each array to the dtype of its entry; the order does not matter.

    Raises:
        FlamesError: an entry is missing, unknown, not numeric or has a wrong shape; the message names the
            first one, and the model is unchanged.
    """
    check_fit(model, weights)
    state = model.state_dict()
    for name, tensor in state.items():
        _check_numbers(name, np.asarray(weights[name]), tensor)
    if any(tensor.is_cuda for tensor in state.values()):
        send(weights, state)
        return
    model.load_state_dict({name: _fitted(weights[name], like) for name, like in state.items()}, strict=True)


@torch.no_grad()
def send(weights: Weights, state: Mapping[str, Tensor]) -> None:
    """Copy arrays into tensors of one device, in one piece for each dtype; shapes are the same."""
    for names in _by_dtype(state):
        like = [state[name] for name in names]
        size = sum(tensor.numel() for tensor in like)
        pinned = torch.empty(size, dtype=like[0].dtype, pin_memory=like[0].is_cuda)
        for name, part in zip(names, _divide(pinned.numpy(), like), strict=True):
            np.copyto(part, weights[name], casting="unsafe")
        flat = pinned.to(like[0].device, non_blocking=True)
        parts = torch.split(flat, [tensor.numel() for tensor in like])
        for tensor, values in zip(like, parts, strict=True):
            tensor.copy_(values.view(tensor.shape))


def _by_dtype(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of the tensors of each dtype."""
    dtypes = dict.fromkeys(tensor.dtype for tensor in state.values())
    return [[name for name, tensor in state.items() if tensor.dtype == dtype] for dtype in dtypes]


def _divide(piece: NDArray[Any], like: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Return the parts of a flat array, one after another, in the shapes of `like`, as views."""
    ends = np.cumsum([tensor.numel() for tensor in like])
    return [
        piece[end - tensor.numel() : end].reshape(tensor.shape)
        for end, tensor in zip(ends, like, strict=True)
    ]


def check_fit(model: nn.Module, weights: Weights) -> None:
    """Check names and shapes of `weights`; `model` may be on torch's meta device, which holds no values.

    Raises:
        FlamesError: an entry is missing, unknown or has a wrong shape; the message names the first one.
    """
    state = model.state_dict()
    _check_keys(state, weights)
    for name, tensor in state.items():
        if (shape := np.shape(weights[name])) != tuple(tensor.shape):
            raise FlamesError(
                f"weights do not fit the model: {name} has shape {shape}, expected {tuple(tensor.shape)}; "
                "use weights of the same model and options"
            )


def _copy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy(), order="C")


def _check_keys(expected: Collection[str], found: Collection[str]) -> None:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    problems = [_count("missing", missing)] if missing else []
    problems += [_count("unknown", unknown)] if unknown else []
    if problems:
        raise FlamesError(
            f"weights do not fit the model: {', '.join(problems)}; "
            f"expected its {len(expected)} entries; use weights of the same model and options"
        )


def _count(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{what} {names[0]}{more}"


def _check_numbers(name: str, array: NDArray[Any], like: Tensor) -> None:
    """Check that the entry `name` has numbers, and that a count is finite."""
    if array.dtype.kind not in _NUMERIC_KINDS:
        raise FlamesError(
            f"weights do not fit the model: {name} is of type {array.dtype}, expected real numbers; "
            "use weights of the same model and options"
        )
    if not like.is_floating_point() and not np.isfinite(array).all():
        raise FlamesError(
            f"weights do not fit the model: {name} is not finite, expected a count; "
            "use weights without NaN or infinity"
        )


def _fitted(value: NDArray[Any], like: Tensor) -> Tensor:
    """Copy `value`, of the same shape, to a tensor with the dtype of `like`."""
    array = np.asarray(value)
    # A copy in native byte order: torch warns about read-only arrays and does not accept swapped bytes.
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native).to(like.dtype)
