"""Encoding of one raw source: its cases, made square and compressed, as `preprocess` writes them."""

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.geometry import MaskResize, to_square
from flames_cli.core.imaging.intensity import MAX_8_BIT, quantise, scale
from flames_cli.core.imaging.lesions import FULL_MASK, measure_lesions, share_of
from flames_cli.core.imaging.volumes import PLANES
from flames_cli.readers.base import BadCase, RawCase, Reader, Source, describe_bad
from flames_cli.readers.formats.fingerprints import content_hash, perceptual_hash
from flames_cli.stages.acceptance import FULL_MASK_CODE, make_id
from flames_cli.store.cases import CaseInfo, encode_chunk


@dataclass(frozen=True, slots=True)
class EncodedCase:
    """A case that is ready for HDF5."""

    info: CaseInfo
    """Information about the case; its `case` is unique only within its source."""
    image: bytes
    mask: bytes
    max_value: int
    channels: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Result for one source: its cases, or the reason why there are none."""

    source: Source
    cases: tuple[EncodedCase, ...] = ()
    content: str = ""
    """Hash of the stored pixels: equal for exact copies."""
    pictures: tuple[str, ...] = ()
    """Hash of each case's pixels: also equal for copies of a volume whose masks select different slices."""
    look: NDArray[np.bool_] | None = None
    """Perceptual hash of a still image before resizing, so that split units do not depend on the size."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(slice, reason) of all that the data set's rules leave out; an empty slice means the complete
    source."""
    bad: str = ""
    labels: frozenset[str] = frozenset()
    """Labels of its masks that are tumour (see RawCase)."""
    needs_choice: bool = False
    """True if it is bad only because the user has not chosen the labels of tumour."""
    full: tuple[tuple[str, float], ...] = ()
    """(name, share) of the masks that cover nearly all of their image."""
    selected: int = 0
    """Number of cases that the rules of the data set select."""


class Encoding:
    """Cases of one source, encoded one by one while the source is in memory.

    All slices of a volume are encoded. Those that are not selected have no part in any check, comparison or
    hash: whether a volume is used, and with whom it is split, depends on its selected slices.
    """

    def __init__(self, source: Source, size: int, is_still: bool) -> None:
        self._source = source
        self._size = size
        self._is_still = is_still
        self._encoded: list[EncodedCase] = []
        self._skipped: list[tuple[str, str]] = []
        self._pictures: list[str] = []
        self._content: list[str] = []
        self._full: list[tuple[str, float]] = []

    def add(self, case: RawCase, image: Pixels, mask: Mask) -> None:
        """Encode one case, whose square image and mask are `image` and `mask`."""
        vanishes = bool(case.mask.view(bool).any() and not mask.any())
        if case.selected:
            if (share := share_of(case.mask)) > FULL_MASK:
                self._full.append((self._source.name if self._is_still else case.case, share))
            self._content.append(content_hash(image))
            if vanishes:
                self._skipped.append((_slice_of(case), f"the lesion vanishes at {self._size}×{self._size}"))
            elif mask.any():  # slices of air may be equal in two patients
                self._pictures.append(self._content[-1])
        if case.place or not vanishes:  # a volume keeps all of its slices
            self._encoded.append(_encode(case, self._source, image, mask, case.selected and not vanishes))

    def finish(self, labels: frozenset[str], look: NDArray[np.bool_] | None) -> Decoded:
        """Return the result. `labels` are those of the masks; `look` is the hash of a still image."""
        is_used = any(case.info.selected for case in self._encoded)
        return Decoded(
            source=self._source,
            cases=tuple(self._encoded) if is_used else (),
            content=hashlib.sha256("".join(self._content).encode()).hexdigest(),
            pictures=tuple(self._pictures),
            look=look,
            skipped=tuple(self._skipped),
            labels=labels,
            full=tuple(self._full),
            selected=len(self._content),
        )


def with_source(decoded: Decoded, source: Source) -> Decoded:
    """Return `decoded` of a source as that of `source`, whose files are the same: patient, site and kept
    columns are those of `source`."""
    cases = tuple(
        replace(
            case,
            info=replace(
                case.info,
                patient=source.patient,
                split_unit=source.patient,
                stratum=source.stratum,
                site=source.site,
                extra=dict(source.extra),
            ),
        )
        for case in decoded.cases
    )
    return replace(decoded, source=source, cases=cases)


def require_background(decoded: Decoded, accepted: Container[str]) -> Decoded:
    """Return `decoded`, or as bad if a mask covers more than FULL_MASK of its image and its id (see
    `stages.acceptance`) is not in `accepted`."""
    ids = {name: make_id(FULL_MASK_CODE, [name]) for name, _ in decoded.full}
    full = {name: share for name, share in decoded.full if ids[name] not in accepted}
    if not full:
        return decoded
    source = decoded.source
    is_still = list(full) == [source.name]
    where = "" if is_still else f" in {len(full)} of {decoded.selected} slices"
    error = BadCase(
        f"{source.name}: the mask covers {max(full.values()):.1%} of the image"
        f"{where}, expected at most {FULL_MASK:.0%}; check whether lesion and background are "
        f"swapped; a mask that is right is accepted with --accept FILE as {ids[next(iter(full))]}"
    )
    return Decoded(source, bad=describe_bad(source, error))


def is_still(reader: Reader, raw: Sequence[RawCase]) -> bool:
    """Return whether the cases of one source are one still image, not slices of a volume."""
    return reader.is_still and raw[0].place is None


def look_of(case: RawCase) -> NDArray[np.bool_]:
    """Return the perceptual hash of the case."""
    return perceptual_hash(in_8_bits(case))


def in_8_bits(case: RawCase) -> Pixels:
    """Return the image of the case in 8 bits, for which perceptual hashes are made."""
    if case.image.dtype == np.uint8:
        return case.image
    return quantise(scale(case.image, case.low, case.high), MAX_8_BIT)


def square(case: RawCase, size: int, mask_resize: MaskResize) -> tuple[Pixels, Mask]:
    """Return the case in its final geometry and stored precision; 8-bit images stay 8-bit."""
    if case.place and not case.mask.view(bool).any() and case.image.max() <= case.low:
        # Resampling black would only take time: the outermost slices of a volume often show nothing.
        black = np.zeros((size, size), np.float32)
        return quantise(black, case.max_value), black.astype(np.uint8)
    if case.max_value == MAX_8_BIT and (case.low, case.high) == (0.0, float(MAX_8_BIT)):
        return to_square(case.image, case.mask, size, mask_resize)
    image, mask = to_square(scale(case.image, case.low, case.high), case.mask, size, mask_resize)
    return quantise(image, case.max_value), mask


def _slice_of(case: RawCase) -> str:
    """Return the name of the case within its source: `z077`, by axis and index; empty for a still image."""
    return f"{'xyz'[PLANES[case.place.plane]]}{case.place.index:03d}" if case.place else ""


def _encode(case: RawCase, source: Source, image: Pixels, mask: Mask, selected: bool) -> EncodedCase:
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
        selected=selected,
        extra=dict(source.extra),
    )
    channels = 1 if image.ndim == 2 else int(image.shape[2])
    return EncodedCase(info, encode_chunk(image), encode_chunk(mask), case.max_value, channels)
