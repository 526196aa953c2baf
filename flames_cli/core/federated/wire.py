"""Wire types of weights: conversion of floats to 16 bits for the transport, and back.

fp16 (IEEE 754 binary16) has 11 significant bits and reaches 65504. bf16, the upper half of a float32, has
8 significant bits and the range of float32. Models, control variates and decoders travel as values; reports
travel as differences (see `coding`). int8 is a type of differences: what travels as values is then bf16.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError

INT8 = "int8"
WIRE_TYPES = ("fp32", "fp16", "bf16", INT8)
"""Types that floats can have in a message; fp32: floats are not changed."""

WIDE = ("float32", "float64")
"""Types that are narrowed; narrower floats and integers are sent unchanged."""

CARRIED = {"fp16": np.dtype(np.float16), "bf16": np.dtype(np.uint16), INT8: np.dtype(np.uint16)}
"""Array dtypes of narrowed entries; numpy has no bfloat16."""

ROUNDING = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8, INT8: 2.0**-8}
"""Largest relative rounding error of each wire type."""

_WIDER = {"fp16": "bf16", "bf16": "fp32", INT8: "fp32"}


def check_wire(wire: str) -> None:
    """Check that the wire type is known; FlamesError if not."""
    if wire not in WIRE_TYPES:
        raise FlamesError(f"the wire's type is '{wire}', expected one of {', '.join(WIRE_TYPES)}")


def narrow(weights: Weights, wire: str) -> tuple[Weights, dict[str, str]]:
    """Return `weights` in the wire type, and the original dtype of each narrowed entry (for `widen`).

    Values are rounded to the nearest, ties to even; NaN stays NaN, infinity stays infinity.

    Raises:
        FlamesError: the wire type is unknown, or a finite value is outside its range.
    """
    check_wire(wire)
    dtypes = {
        name: array.dtype.name
        for name, array in weights.items()
        if wire != "fp32" and array.dtype.name in WIDE
    }
    return {
        name: narrow_entry(name, array, wire) if name in dtypes else array for name, array in weights.items()
    }, dtypes


def widen(weights: Weights, wire: str, dtypes: Mapping[str, str]) -> Weights:
    """Return weights that `narrow` converted, in their original dtypes; the values do not change.

    Raises:
        FlamesError: the wire type is unknown, or `narrow` cannot have made these entries.
    """
    check_wire(wire)
    for name, dtype in dtypes.items():
        carried = CARRIED.get(wire)
        found = weights[name].dtype if name in weights else "missing"
        if found != carried or dtype not in WIDE:
            raise FlamesError(
                f"'{name}' is {found}, described as {dtype} sent as {wire}; expected "
                f"{carried or 'no such entry'} made from {' or '.join(WIDE)}; install the same version "
                "everywhere"
            )
    return {
        name: widen_entry(array, wire).astype(dtypes[name], copy=False) if name in dtypes else array
        for name, array in weights.items()
    }


def as_received(weights: Weights, wire: str) -> Weights:
    """Return `weights` as their receiver has them after they travelled in the type `wire`."""
    narrowed, dtypes = narrow(weights, wire)
    return widen(narrowed, wire, dtypes)


def narrow_entry(name: str, array: NDArray[Any], wire: str) -> NDArray[Any]:
    """Return an entry of WIDE floats in 16 bits.

    Raises:
        FlamesError: a finite value is outside the range of the wire type.
    """
    # Values outside the range are reported below, with the name of their entry.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrowed = array.astype(np.float16) if wire == "fp16" else _to_bf16(array.astype(np.float32))
    beyond = np.isfinite(array) & ~np.isfinite(widen_entry(narrowed, wire))
    if beyond.any():
        raise FlamesError(
            f"'{name}' contains {array[beyond][0]:.4g}, outside the range of {wire}; "
            f"pass --wire-dtype {_WIDER[wire]}"
        )
    return narrowed


def widen_entry(array: NDArray[Any], wire: str) -> NDArray[np.float32]:
    """Return an entry that `narrow_entry` made, in float32."""
    if wire == "fp16":
        return array.astype(np.float32)
    # A 0-d array would become a scalar, of whose memory there is no view.
    bits = np.atleast_1d(array).astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).reshape(array.shape)


def _to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of float32 `array` as bfloat16, rounded to the nearest value, ties to even."""
    bits = np.atleast_1d(array).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    # Rounding up would turn a NaN with only low bits set into infinity or zero.
    return np.where(np.isnan(array), 0x7FC0, rounded.reshape(array.shape)).astype(np.uint16)
