"""Inspection of one raw source: figures of its cases and small pictures, as `check` needs them."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.clipping import Clipping, measure_clipping
from flames_cli.core.imaging.intensity import MAX_8_BIT, count_values, dequantise, quantise
from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.imaging.near_duplicates import PHASH_SIZE
from flames_cli.core.imaging.quality import Intensity, measure_intensity, shrink
from flames_cli.readers.base import RawCase, Source
from flames_cli.readers.formats.fingerprints import content_hash, orientation_hashes
from flames_cli.stages.preprocess.decoding import in_8_bits
from flames_cli.store.cases import encode_chunk

PICTURE = 160
"""Side of the stored pictures, in pixels."""


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """Figures of a case; pixels are those of the raw image unless stated otherwise."""

    name: str
    """Name of the case; a still image has the name of its source."""
    shape: tuple[int, int]
    depth: tuple[int, int]
    """Number of channels, and the full scale."""
    spacing_mm: tuple[float, float, float]
    """Spacing of rows, of columns, and from slice to slice; NaN if unknown."""
    lesion_px: int
    lesion_px_at_size: int
    lesions: int
    intensity: Intensity
    level: float
    """Mean of the image as the model sees it: 0 at the window's low end, 1 at its high end."""
    contrast: float
    """Standard deviation of the image, on the same scale."""
    digest: str
    """Digest of the raw pixels: equal for exact copies; empty for constant images, which do not count as
    copies."""
    packed_mask: bytes
    """The mask at the requested size, packed."""
    clipping: Clipping | None = None
    """Pixels at the ends of the window; None for 8-bit images, which stay as they are."""
    packed_hashes: bytes = b""
    """Perceptual hashes of the content's box, packed: 8 orientations of a slice with a lesion, or a still
    image as it is; empty where they are not requested."""

    @property
    def is_used(self) -> bool:
        """True unless its lesion vanishes at the requested size."""
        return not self.lesion_px or self.lesion_px_at_size > 0

    @property
    def share(self) -> float:
        """Share of the image that is lesion, 0..1."""
        return self.lesion_px / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, slots=True)
class Inspected:
    """Result for one source: its cases, or the reason why there are none."""

    source: Source
    cases: tuple[CaseFigures, ...] = ()
    look: NDArray[np.bool_] | None = None
    """Perceptual hash; None for volumes."""
    skipped: str = ""
    bad: str = ""
    labels: frozenset[str] = frozenset()
    """Labels of its masks that are tumour (see RawCase)."""
    remarks: tuple[str, ...] = ()
    """Remarks of the reader about the files, each once."""


Pictures = Mapping[str, bytes]
"""Encoded square pictures by case."""


class Inspection:
    """Figures of the cases of one source, measured one by one while the source is in memory.

    With `hash_slices`, still images and slices with a lesion get hashes with which they are compared. There
    are pictures of a volume's slices with the smallest and the largest lesion, which is enough to identify
    it.
    """

    def __init__(
        self,
        source: Source,
        raw: Sequence[RawCase],
        percentile: float,
        hash_slices: bool,
        is_still: bool,
    ) -> None:
        self._source = source
        self._percentile = percentile
        self._hash_slices = hash_slices
        self._is_still = is_still
        self._labels = raw[0].labels
        self._remarks = tuple(dict.fromkeys(remark for case in raw for remark in case.notes))
        self._pictured = {raw[index].case for index in _extremes(raw)}
        self._cases: list[CaseFigures] = []
        self._pictures: dict[str, bytes] = {}

    def add(self, case: RawCase, image: Pixels, mask: Mask) -> None:
        """Measure one case, whose square image and mask are `image` and `mask`."""
        name = self._source.name if self._is_still else case.case
        measured = _measure(name, case, mask, self._percentile)
        if self._hash_slices and measured.digest and (self._is_still or measured.lesion_px):
            hashes = np.packbits(orientation_hashes(in_8_bits(case), 1 if self._is_still else 8))
            measured = replace(measured, packed_hashes=hashes.tobytes())
        self._cases.append(measured)
        if case.case in self._pictured:
            self._pictures[name] = encode_chunk(shrink(_in_8_bits(image, case.max_value), PICTURE))

    def finish(self, look: NDArray[np.bool_] | None) -> tuple[Inspected, Pictures]:
        """Return the result; `look` is the hash of a still image."""
        cases = tuple(self._cases)
        found = Inspected(self._source, cases, look, labels=self._labels, remarks=self._remarks)
        return found, self._pictures


def _extremes(raw: Sequence[RawCase]) -> set[int]:
    areas = [int(case.mask.sum()) for case in raw]
    bearing = [index for index, area in enumerate(areas) if area] or list(range(len(areas)))
    return {min(bearing, key=areas.__getitem__), max(bearing, key=areas.__getitem__)}


def _in_8_bits(image: Pixels, max_value: int) -> Pixels:
    return image if image.dtype == np.uint8 else quantise(dequantise(image, max_value), MAX_8_BIT)


def _measure(name: str, case: RawCase, mask_at_size: Mask, percentile: float) -> CaseFigures:
    height, width = case.mask.shape
    counted = count_values(case.image)
    intensity = measure_intensity(case.image, case.low, case.high, counted)
    window = case.high - case.low
    lesions = measure_lesions(case.mask)
    return CaseFigures(
        name=name,
        shape=(height, width),
        depth=(1 if case.image.ndim == 2 else int(case.image.shape[2]), case.max_value),
        spacing_mm=(*case.spacing_mm, case.place.slice_distance_mm if case.place else math.nan),
        lesion_px=lesions.area_px,
        lesion_px_at_size=int(mask_at_size.sum()),
        lesions=lesions.n,
        intensity=intensity,
        level=(intensity.mean - case.low) / window,
        contrast=intensity.sd / window,
        digest=content_hash(_as_numbers(case.image)) if intensity.sd else "",
        packed_mask=encode_chunk(np.packbits(mask_at_size)),
        clipping=None
        if case.max_value == MAX_8_BIT
        else measure_clipping(case.image, case.mask, case.low, case.high, percentile, counted),
    )


def _as_numbers(image: Pixels) -> Pixels:
    """Return deep pixels in one type, so that copies in other types and byte orders are equal; -0 is 0."""
    return image if image.dtype == np.uint8 else image.astype(np.float32) + np.float32(0)


def unpack_mask(case: CaseFigures, size: int) -> Mask:
    """Return the mask of `case` at the requested size."""
    bits = np.frombuffer(zlib.decompress(case.packed_mask), np.uint8)
    return np.unpackbits(bits, count=size * size).reshape(size, size)


def unpack_hashes(case: CaseFigures) -> NDArray[np.bool_]:
    """Return the hashes of a slice or a still image: orientations × bits."""
    bits = np.unpackbits(np.frombuffer(case.packed_hashes, np.uint8))
    return bits.reshape(-1, PHASH_SIZE**2).astype(np.bool_)


def unpack_picture(picture: bytes, size: int) -> Pixels:
    """Return a picture that `inspect` made at `size`: S×S, or S×S×3 in colour."""
    side = min(size, PICTURE)
    return np.frombuffer(zlib.decompress(picture), np.uint8).reshape(side, side, -1).squeeze()
