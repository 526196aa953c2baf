"""Weights on their way: floats in 16 bits instead of 32, and back.

fp16 (IEEE 754 binary16) keeps 11 bits of a number's size and reaches 65504; bf16, the upper half of a
float32, keeps 8 bits and has float32's range.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError

WIRE_TYPES = ("fp32", "fp16", "bf16")
"""What floats travel as; fp32: as they are."""

_WIDE = ("float32", "float64")
"""The types that are narrowed; what is narrower, or an integer, travels as it is."""

_CARRIED = {"fp16": np.dtype(np.float16), "bf16": np.dtype(np.uint16)}
"""What narrowed entries are arrays of; numpy has no bfloat16."""

ROUNDING = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
"""How far a number may move on its way, relative to itself."""

_WIDER = {"fp16": "bf16", "bf16": "fp32"}


def check_wire(wire: str) -> None:
    """Refuse a type that is not of WIRE_TYPES with a FlamesError."""
    if wire not in WIRE_TYPES:
        raise FlamesError(f"the wire's type is '{wire}', expected one of {', '.join(WIRE_TYPES)}")


def narrow(weights: Weights, wire: str) -> tuple[Weights, dict[str, str]]:
    """`weights` as they travel, and of what type each narrowed entry was: what `widen` needs.

    To the nearest value, ties to even; NaN stays NaN, infinity stays infinite.

    Raises:
        FlamesError: no such type, or a finite value beyond its range.
    """
    check_wire(wire)
    dtypes = {
        name: array.dtype.name
        for name, array in weights.items()
        if wire != "fp32" and array.dtype.name in _WIDE
    }
    return {
        name: _narrow_entry(name, array, wire) if name in dtypes else array for name, array in weights.items()
    }, dtypes


def widen(weights: Weights, wire: str, dtypes: Mapping[str, str]) -> Weights:
    """What `narrow` narrowed, exactly as it travelled, in the types that it had before.

    Raises:
        FlamesError: no such type, or entries that `narrow` cannot have made.
    """
    check_wire(wire)
    for name, dtype in dtypes.items():
        carried = _CARRIED.get(wire)
        found = weights[name].dtype if name in weights else "missing"
        if found != carried or dtype not in _WIDE:
            raise FlamesError(
                f"'{name}' is {found} and said to be {dtype} sent as {wire}, expected "
                f"{carried or 'no such entry'} of {' or '.join(_WIDE)}; install one version everywhere"
            )
    return {
        name: _widen_entry(array, wire).astype(dtypes[name], copy=False) if name in dtypes else array
        for name, array in weights.items()
    }


def _narrow_entry(name: str, array: NDArray[Any], wire: str) -> NDArray[Any]:
    # What is lost is told below, by name.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrowed = array.astype(np.float16) if wire == "fp16" else _to_bf16(array.astype(np.float32))
    beyond = np.isfinite(array) & ~np.isfinite(_widen_entry(narrowed, wire))
    if beyond.any():
        raise FlamesError(
            f"'{name}' holds {array[beyond][0]:.4g}, beyond what {wire} reaches; "
            f"pass --wire-dtype {_WIDER[wire]}"
        )
    return narrowed


def _widen_entry(array: NDArray[Any], wire: str) -> NDArray[np.float32]:
    if wire == "fp16":
        return array.astype(np.float32)
    # 0-d arrays would turn into scalars, which have no view of their own memory.
    bits = np.atleast_1d(array).astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).reshape(array.shape)


def _to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of float32 `array` as bfloat16: half of the last place kept is added, less where even."""
    bits = np.atleast_1d(array).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    # Rounded up, a NaN whose low bits alone are set would turn into infinity or zero.
    return np.where(np.isnan(array), 0x7FC0, rounded.reshape(array.shape)).astype(np.uint16)
