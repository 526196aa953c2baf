"""Conversion of a model's state dict to numpy arrays and back."""

from collections.abc import Collection
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
    return {name: _copy(tensor) for name, tensor in model.state_dict().items()}


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into `model` and cast each array to the dtype of its entry; the order does not matter.

    Raises:
        FlamesError: an entry is missing, unknown, not numeric or has a wrong shape; the message names the
            first one, and the model is unchanged.
    """
    check_fit(model, weights)
    tensors = {name: _fitted(name, weights[name], tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(tensors, strict=True)


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


def _fitted(name: str, value: NDArray[Any], like: Tensor) -> Tensor:
    """Copy `value`, of the same shape, to a tensor with the dtype of `like`."""
    array = np.asarray(value)
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
    # A copy in native byte order: torch warns about read-only arrays and does not accept swapped bytes.
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native).to(like.dtype)
