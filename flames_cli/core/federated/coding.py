"""Coding of a report against the model that its client received: differences, and entries without a change.

The client sends the difference between its trained weights and those that it received. The server adds it to
its own weights, which are in full precision: narrow wire types then round a change relative to the change and
not to the weight, and the rounding of a model on its way to the client does not accumulate over rounds.
Source of weights in full precision next to narrow copies: Micikevicius et al. 2018, Mixed precision training.

Differences in 8 bits have a scale for each BLOCK of values (Dettmers 2016, 8-bit approximations) and error
feedback: the client adds to each update what rounding left out of the update before (Seide et al. 2014, 1-bit
SGD; Karimireddy et al. 2019, Error feedback fixes SignSGD).

The statistics of BatchNorm travel as values in full precision: they are estimated in every round, and the
rounding of a difference could make a variance negative. All arithmetic is IEEE 754 in the dtype of the entry,
or in float32 for 8 bits, so that every machine gets the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import MEAN, VARIANCE
from flames_cli.core.federated.wire import CARRIED, INT8, WIDE, check_wire, narrow_entry, widen_entry
from flames_cli.errors import FlamesError

SAME, DIFFERENCE = "same", "difference"
"""Codes of entries: equal to the received one bit for bit, and sent without data; or a difference."""

BLOCK = 1024
"""Number of values with one scale, in 8 bits."""

_LARGEST = 127
_SCALE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Coded:
    """Weights as they travel in a report."""

    arrays: Weights
    """Array that is sent for each entry, in the order of the weights."""
    codes: dict[str, str]
    """Code of each entry that is not sent as it is."""
    residual: Weights = field(default_factory=dict)
    """Part of each difference that 8 bits left out, in float32; the client adds it to its next report."""


def code(weights: Weights, received: Weights, wire: str, residual: Mapping[str, NDArray[Any]]) -> Coded:
    """Return `weights` coded against the weights that the client `received`.

    Args:
        weights: trained weights; entries that `received` does not have are sent as they are.
        received: weights of the same names as the client received them.
        wire: wire type.
        residual: what earlier reports left out, by entry; only for 8 bits.

    Raises:
        FlamesError: the wire type is unknown, or a difference is outside its range.
    """
    check_wire(wire)
    arrays: Weights = {}
    codes: dict[str, str] = {}
    left: Weights = {}
    for name, array in weights.items():
        start, before = received.get(name), residual.get(name)
        arrays[name] = array
        if start is None or (start.dtype, start.shape) != (array.dtype, array.shape):
            continue
        if before is None and _same_bits(array, start):
            arrays[name], codes[name] = np.empty(0, np.uint8), SAME
        elif wire in CARRIED and _has_difference(name, array):
            codes[name] = DIFFERENCE
            with np.errstate(over="ignore", invalid="ignore"):
                moved = array - start
            if wire == INT8:
                arrays[name], left[name] = _quantise_with_feedback(moved, before)
            else:
                arrays[name] = narrow_entry(name, moved, wire)
    return Coded(arrays, codes, left)


def decode(arrays: Weights, codes: Mapping[str, str], wire: str, start: Weights) -> Weights:
    """Return the weights of a report, whose client started from the server's weights `start`.

    Entries that did not change are read-only views of `start`.

    Raises:
        FlamesError: the wire type is unknown, or `code` cannot have made these arrays.
    """
    check_wire(wire)
    for name, how in codes.items():
        array, model = arrays.get(name), start.get(name)
        if array is None or model is None or not _fits(name, array, how, wire, model):
            found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise FlamesError(
                f"'{name}' is {found}, described as {how} sent as {wire}; expected an entry of the model "
                "that was sent to the client; install the same version everywhere"
            )
    return {
        name: _decode_entry(array, codes[name], wire, start[name]) if name in codes else array
        for name, array in arrays.items()
    }


def _fits(name: str, array: NDArray[Any], how: str, wire: str, start: NDArray[Any]) -> bool:
    """Return True if `code` can have made `array` of an entry with the code `how`."""
    if how == SAME:
        return array.size == 0
    if how != DIFFERENCE or wire not in CARRIED or not _has_difference(name, start):
        return False
    if wire == INT8:
        return array.dtype == np.uint8 and array.shape == (_packed_size(start.size),)
    return array.dtype == CARRIED[wire] and array.shape == start.shape


def _decode_entry(array: NDArray[Any], how: str, wire: str, start: NDArray[Any]) -> NDArray[Any]:
    if how == SAME:
        same = start.view()
        same.flags.writeable = False
        return same
    moved = _restore(array, start.size).reshape(start.shape) if wire == INT8 else widen_entry(array, wire)
    return np.asarray(start + moved.astype(start.dtype, copy=False))


def _has_difference(name: str, array: NDArray[Any]) -> bool:
    """Return True if an entry travels as a difference in narrow wire types."""
    return array.dtype.name in WIDE and not name.endswith((MEAN, VARIANCE))


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return True if two arrays of the same dtype and shape have the same bits (also of NaN and -0)."""
    # A trained entry differs within its first row, so that the complete comparison is rare.
    begins_alike = one.ndim == 0 or one[:1].tobytes() == other[:1].tobytes()
    return begins_alike and one.tobytes() == other.tobytes()


def _quantise_with_feedback(
    moved: NDArray[Any], before: NDArray[Any] | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the difference in 8 bits, with what was left out `before`, and what is left out now."""
    wanted = moved.astype(np.float32)
    if before is not None:
        wanted = wanted + before
    packed = _quantise(wanted.reshape(-1))
    with np.errstate(invalid="ignore"):
        return packed, np.asarray(wanted - _restore(packed, wanted.size).reshape(wanted.shape))


def _quantise(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the scale of every block of flat `values`, then every value in units of its scale.

    The scale is the largest absolute value divided by 127. Of a block with a value that is not finite it is
    NaN, so that the server rejects the report.
    """
    padded = np.zeros((_blocks(values.size), BLOCK), np.float32)
    padded.reshape(-1)[: values.size] = values
    scales = np.abs(padded).max(axis=1, initial=0.0) / np.float32(_LARGEST)
    scales[~np.isfinite(scales)] = np.nan
    usable = scales > 0
    units = np.zeros_like(padded)
    units[usable] = np.rint(padded[usable] / scales[usable, None])
    steps = np.clip(units, -_LARGEST, _LARGEST).astype(np.int8).reshape(-1)[: values.size]
    return np.concatenate([scales.astype(_SCALE).view(np.uint8), steps.view(np.uint8)])


def _restore(packed: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Return the `size` values that `_quantise` packed, rounded."""
    end = _blocks(size) * _SCALE.itemsize
    scales = np.repeat(packed[:end].view(_SCALE), BLOCK)[:size]
    return scales * packed[end:].view(np.int8).astype(np.float32)


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _packed_size(size: int) -> int:
    return _blocks(size) * _SCALE.itemsize + size
