"""One raw source → its cases, square and encoded: what preprocess does in parallel."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.geometry import to_square
from flames_cli.core.imaging.intensity import MAX_8_BIT, quantise, scale
from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.imaging.volumes import PLANES
from flames_cli.readers.base import BadCase, RawCase, Reader, ReadOptions, SkippedCase, Source
from flames_cli.readers.formats.fingerprints import content_hash, perceptual_hash
from flames_cli.stages.raw import say_bad
from flames_cli.store.cases import CaseInfo, encode_chunk


@dataclass(frozen=True, slots=True)
class EncodedCase:
    """A case ready for HDF5."""

    info: CaseInfo
    """Its `case` tells it from others of its source alone."""
    image: bytes
    mask: bytes
    max_value: int
    channels: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one source: cases, or why there are none."""

    source: Source
    cases: tuple[EncodedCase, ...] = ()
    content: str = ""
    """Hash of the pixels that are stored: equal for exact copies."""
    pictures: tuple[str, ...] = ()
    """Hash of each case's pixels: shared by copies of a volume whose masks choose other slices."""
    look: NDArray[np.bool_] | None = None
    """Perceptual hash of a still image before resizing, so that split units do not depend on the size."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(slice, reason) of what the data set's rules leave out; no slice: the whole source."""
    bad: str = ""


def decode(reader: Reader, options: ReadOptions, size: int, source: Source) -> Decoded:
    """Read `source` and encode its cases at `size`×`size`; never raises for what is wrong with the data."""
    try:
        raw = reader.read_source(source, options)
    except BadCase as error:
        return Decoded(source, bad=say_bad(source, error))
    except SkippedCase as error:
        return Decoded(source, skipped=(("", str(error)),))
    encoded: list[EncodedCase] = []
    skipped: list[tuple[str, str]] = []
    pictures: list[str] = []
    content: list[str] = []
    for case in raw:
        image, mask = square(case, size)
        content.append(content_hash(image))
        if case.mask.any() and not mask.any():
            skipped.append((_slice_of(case), f"the lesion vanishes at {size}×{size}"))
            continue
        encoded.append(_encode(case, source, image, mask))
        if mask.any():  # slices of air may be equal in two people
            pictures.append(content[-1])
    look = look_of(raw[0]) if reader.is_still and raw[0].place is None else None
    whole = hashlib.sha256("".join(content).encode()).hexdigest()
    return Decoded(source, tuple(encoded), whole, tuple(pictures), look, tuple(skipped))


def look_of(case: RawCase) -> NDArray[np.bool_]:
    """Its perceptual hash. Deep images are brought to 8 bits first, which is what the hash is made for."""
    if case.image.dtype == np.uint8:
        return perceptual_hash(case.image)
    return perceptual_hash(quantise(scale(case.image, case.low, case.high), MAX_8_BIT))


def square(case: RawCase, size: int) -> tuple[Pixels, Mask]:
    """The case in its final geometry and stored precision; 8-bit images never leave 8 bits."""
    if case.max_value == MAX_8_BIT and (case.low, case.high) == (0.0, float(MAX_8_BIT)):
        return to_square(case.image, case.mask, size)
    image, mask = to_square(scale(case.image, case.low, case.high), case.mask, size)
    return quantise(image, case.max_value), mask


def _slice_of(case: RawCase) -> str:
    """What tells the case from others of its source: `z077`, by axis and index; nothing of a still image."""
    return f"{'xyz'[PLANES[case.place.plane]]}{case.place.index:03d}" if case.place else ""


def _encode(case: RawCase, source: Source, image: Pixels, mask: Mask) -> EncodedCase:
    height, width = case.mask.shape
    lesions = measure_lesions(mask)
    info = CaseInfo(
        case=_slice_of(case),
        patient=source.patient,
        split_unit=source.patient,
        stratum=source.stratum,
        slice_index=case.slice_index,
        spacing_mm=case.spacing_mm,
        lesion_px=lesions.area_px,
        site=source.site,
        raw_shape=(height, width),
        place=case.place,
        n_lesions=lesions.n,
        smallest_px=lesions.smallest_px,
        smallest_box_px=lesions.smallest_box_px,
    )
    channels = 1 if image.ndim == 2 else int(image.shape[2])
    return EncodedCase(info, encode_chunk(image), encode_chunk(mask), case.max_value, channels)
