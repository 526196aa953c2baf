"""Decode the pixels of DICOM files to their stored values.

A stored value occupies BitsStored bits, of which HighBit is the highest (PS3.5, 8.1.1). The other bits of its
word may contain an overlay, as old devices wrote it, or the sign.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import (
    PIXEL_TAGS,
    count_bytes,
    count_frames,
    named_errors,
    read_tags,
)

Stored = NDArray[Any]

OVERLAYS = range(0x6000, 0x6020, 2)
"""Groups of overlays."""

_NAMES = (
    *PIXEL_TAGS,
    *("PixelData", "Modality", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *(f"{group:04x}{element}" for group in OVERLAYS for element in ("0100", "0102")),
    *(
        f"{part}{colour}PaletteColorLookupTable{kind}"
        for colour in ("Red", "Green", "Blue")
        for part, kind in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
)
_TAGS = [Tag(name) for name in _NAMES]


def read_frames(path: Path, labels: bool = False) -> Stored:
    """Return the stored values of a grey file, frames×rows×columns.

    Padding that would be the brightest of the file becomes its darkest value.

    Args:
        path: the file.
        labels: True if the file is a mask, whose values all count as they are stored.

    Raises:
        BadCase: pixels are missing or incomplete, cannot be decoded, or use bits that the header does not
            name.
    """
    with named_errors(path):
        dataset = open_pixels(path)
        values = decode(path, dataset, labels=labels)
    return values.reshape(count_frames(dataset), int(dataset.Rows), int(dataset.Columns))


def open_pixels(path: Path) -> Dataset:
    """Return the elements that decoding needs. Raises BadCase if pixels are missing or incomplete."""
    dataset = read_tags(path, _TAGS)
    if "PixelData" not in dataset:
        raise BadCase(
            f"{path.name}: it contains no pixels that are whole numbers, expected an image; convert a "
            "parametric map to NIfTI"
        )
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        _require_all(path, dataset)
    return dataset


def _require_all(path: Path, dataset: Dataset) -> None:
    claimed = count_bytes(dataset)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        claimed = claimed // 3 * 2
    if len(dataset.PixelData) < claimed:
        raise BadCase(
            f"{path.name}: it contains {len(dataset.PixelData)} bytes of pixels, its header claims {claimed}"
        )
    # Some writers pad, of which pydicom would warn.
    dataset.PixelData = dataset.PixelData[: claimed + claimed % 2]


def decode(path: Path, dataset: Dataset, frame: int | None = None, labels: bool = False) -> Stored:
    """Return the stored values of one frame (from 0), or of all; colour as red, green and blue.

    Args:
        path: the file, for messages.
        dataset: the elements of `open_pixels`.
        frame: index of the frame; None: all.
        labels: see `read_frames`.

    Raises:
        BadCase: see `read_frames`.
    """
    layout = None if int(dataset.BitsAllocated) == 1 else _layout_of(path, dataset)
    # pydicom would drop the highest bits, although they are the value where HighBit is not BitsStored - 1.
    words = np.asarray(pixel_array(dataset, index=frame, correct_unused_bits=False))
    words = words.astype(words.dtype.newbyteorder("="), copy=False)
    if layout is None or words.dtype.kind not in "iu":
        return words
    padding = None if labels else _find_padding(dataset, words)
    values = _select_bits(path, dataset, words, layout, padding)
    return values if padding is None else _darken(dataset, words, values, padding)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Bits of a word that are its value, as the header names them."""

    bits: int
    """Number of bits of the value."""
    low: int
    """Number of bits below the value."""
    is_signed: bool

    @property
    def ends(self) -> tuple[int, int]:
        """Least and largest value."""
        return (
            (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.is_signed else (0, (1 << self.bits) - 1)
        )


def _layout_of(path: Path, dataset: Dataset) -> _Layout:
    """Return the bits of the value. Raises BadCase if the header cannot be right."""
    allocated = int(dataset.BitsAllocated)
    bits = int(dataset.get("BitsStored") or allocated)
    high = int(dataset.HighBit) if dataset.get("HighBit") is not None else bits - 1
    low, syntax = high + 1 - bits, dataset.file_meta.TransferSyntaxUID
    is_movable = not syntax.is_compressed or syntax == RLELossless
    if not 0 < bits <= allocated or not 0 <= low <= allocated - bits or (low and not is_movable):
        raise BadCase(
            f"{path.name}: its BitsStored is {bits} and its HighBit {high} of {allocated}, expected HighBit "
            f"{bits - 1}; export it again"
        )
    return _Layout(bits, low, bool(dataset.get("PixelRepresentation")))


def _find_padding(dataset: Dataset, words: Stored) -> NDArray[np.bool_] | None:
    """Return True where the pixels are padding (PS3.3, C.7.5.1.1.2); None: there are no such pixels."""
    if not str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME"):
        return None
    ends = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    first = np.array(int(ends[0]), np.int64).astype(words.dtype)
    last = first if ends[1] is None else np.array(int(ends[1]), np.int64).astype(words.dtype)
    padding = (words >= min(first, last)) & (words <= max(first, last))
    return padding if padding.any() else None


def _select_bits(
    path: Path, dataset: Dataset, words: Stored, layout: _Layout, padding: NDArray[np.bool_] | None
) -> Stored:
    """Return the values of words.

    Raises:
        BadCase: bits that are neither the value, its sign nor an overlay are set.
    """
    bits, low = layout.bits, layout.low
    least, most = layout.ends
    if low == 0 and words.min() >= least and words.max() <= most:
        return words
    wide = words.astype(np.int64)
    values = (wide >> low) & ((1 << bits) - 1)
    if layout.is_signed:
        values -= (values > most).astype(np.int64) << bits
    unused = ((1 << int(dataset.BitsAllocated)) - 1) & ~(((1 << bits) - 1) << low) & ~_overlay_bits(dataset)
    # The bits above a negative value repeat its sign, or are 0.
    wrong = (wide & unused != 0) & ((wide ^ (values << low)) & unused != 0)
    if padding is not None:
        wrong &= ~padding
    if wrong.any():
        raise BadCase(
            f"{path.name}: {np.count_nonzero(wrong)} pixels use bits beyond its BitsStored of {bits} "
            f"(HighBit {low + bits - 1}), and no overlay explains them; export it again or correct BitsStored"
        )
    return values.astype(words.dtype)


def _overlay_bits(dataset: Dataset) -> int:
    """Return the bits of a word that contain overlays."""
    found = 0
    for group in OVERLAYS:
        bits, position = dataset.get((group, 0x0100)), dataset.get((group, 0x0102))
        if bits is not None and position is not None and int(bits.value) > 1:
            found |= 1 << int(position.value)
    return found


def _darken(dataset: Dataset, words: Stored, values: Stored, padding: NDArray[np.bool_]) -> Stored:
    """Return the values, with the darkest one as padding if it would be the brightest or is cut off."""
    rest, padded = values[~padding], values[padding]
    if not rest.size:
        return values
    is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.get("Modality") != "CT"
    darkest = rest.max() if is_inverted else rest.min()
    is_bright = padded.min() < rest.min() if is_inverted else padded.max() > rest.max()
    if is_bright or not np.array_equal(padded, words[padding]):
        return np.where(padding, darkest, values)
    return values
