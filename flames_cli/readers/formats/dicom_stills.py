"""Read DICOM images without a position in space: ultrasound, mammography, radiographs, endoscopy, captures.

Such a file has one image, or the frames of a clip. Grey values are the stored ones, so that 8 bits stay 8
bits; the display windows of the file are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut

from flames_cli.arrays import Mask, Pixels
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import (
    SEGMENTATIONS,
    count_frames,
    list_files,
    named_errors,
    read_header,
    require_plain_labels,
)
from flames_cli.readers.formats.dicom_pixels import decode, open_pixels
from flames_cli.readers.formats.dicom_planes import has_position, is_slice
from flames_cli.readers.formats.dicom_seg import Segments, read_segments
from flames_cli.readers.formats.images import to_channels

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

CENTIMETRES = 3
"""Unit of PhysicalDeltaX and PhysicalDeltaY (PS3.3, C.8.5.5.1.15)."""

UNKNOWN = (float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Still:
    """One image."""

    pixels: Pixels
    """H×W, or H×W×3: uint8 if the file stores up to 8 bits, else wider."""
    spacing_mm: tuple[float, float] = UNKNOWN
    """Distance between rows and between columns; NaN where the file does not state it."""


def is_still(path: Path, frame: int = 0) -> bool:
    """Return True if a DICOM file, or the only one in a folder, is read as a still.

    Args:
        path: the file or the folder.
        frame: number of a frame that the user named; a frame is a still even if the file has positions.

    Raises:
        BadCase: the file cannot be read.
    """
    files = list_files(path)
    if len(files) != 1:
        return False
    header = read_header(files[0])
    if header.get("SOPClassUID") in SEGMENTATIONS or is_slice(header):
        return False
    return bool(frame) or not has_position(header)


def read_still(path: Path, colour: bool, frame: int = 0) -> Still:
    """Return one image: grey (ITU-R 601 luma), or red, green and blue; bright is what the file shows bright.

    Args:
        path: the file, or a folder with this file alone.
        colour: True to keep colours.
        frame: number of the frame of a clip, from 1; 0: the file has one image.

    Raises:
        BadCase: the file has several frames and none is named, or cannot be read.
    """
    file = list_files(path)[0]
    header = read_header(file)
    _require_one_display(file, header)
    values, is_colour = _read_values(file, header, frame, as_labels=False)
    with named_errors(file):
        pixels = values if is_colour else _intensities(header, values)
        return Still(np.ascontiguousarray(to_channels(pixels, colour)), spacing_of(header))


def read_still_values(path: Path, image: Path, frame: int = 0) -> NDArray[Any]:
    """Return the values of a mask as they are stored: H×W labels, or H×W×3 for a mask in colours.

    The labels of a palette are its indices.

    Args:
        path: the file, with one image, or with as many frames as its image.
        image: the image, in any format.
        frame: number of the frame of the image, from 1; 0: it has one.

    Raises:
        BadCase: the numbers of frames do not fit; or see `read_still`.
    """
    file = list_files(path)[0]
    header = read_header(file)
    require_plain_labels(file, header)
    frames = count_frames(header)
    if frames > 1 and frame and frames != (own := count_frames(read_header(list_files(image)[0]))):
        raise BadCase(f"{file.name}: the mask has {frames} frames, its image {own}; expected as many, or one")
    return _read_values(file, header, frame if frames > 1 else 0, as_labels=True)[0]


def read_still_segmentation(
    path: Path, image: Path | None, frame: int = 0, labels: Sequence[str] = ()
) -> tuple[Mask, frozenset[str]]:
    """Return the chosen segments of a DICOM-SEG on a still as H×W of 0 and 1, and the labels that exist.

    Args:
        path: the segmentation.
        image: the still; None: it is not DICOM, so that the segmentation cannot name it.
        frame: number of the frame of a clip, from 1; 0: the still has one image.
        labels: see `dicom_seg.Segments.choose`.

    Raises:
        BadCase: the segmentation is of other images, does not say which of its frames shows this one, or
            see `dicom_seg.read_segments`.
    """
    file = list_files(path)[0]
    header, own = read_header(file), read_header(list_files(image)[0]) if image else None
    segments = read_segments(file, header)
    chosen = segments.choose(file, labels)
    union = np.zeros(segments.frames.shape[1:], np.uint8)
    for index in _frames_of(file, header, own, frame, segments):
        union |= segments.marked(index, chosen).astype(np.uint8)
    return union, segments.present(labels)


def _frames_of(file: Path, header: Dataset, own: Dataset | None, frame: int, segments: Segments) -> list[int]:
    """Return the frames of a segmentation that show the image `own` (of a clip: its frame `frame`)."""
    with named_errors(file):
        sources = [_sources(header, index) for index in range(len(segments.numbers))]
        uid, is_clip = str(own.get("SOPInstanceUID")) if own else "", bool(own and count_frames(own) > 1)
        found = [index for index, named in enumerate(sources) if not (own and named) or uid in named]
        if is_clip and any(sources) and all(sources[index].get(uid) for index in found):
            return [index for index in found if frame in sources[index][uid]]
        numbers = [segments.numbers[index] for index in found]
    if is_clip or len(set(numbers)) < len(numbers):
        raise BadCase(
            f"{file.name}: its frames do not name the image that they show, expected one per segment for "
            "this image; export a segmentation of this image alone, or the mask as PNG"
        )
    return found


def _sources(header: Dataset, index: int) -> dict[str, set[int]]:
    """Return the images that a frame of a segmentation shows, each with its frames (none: all of them)."""
    groups = [*(header.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]]
    groups += header.get("SharedFunctionalGroupsSequence") or []
    found: dict[str, set[int]] = {}
    for group in groups:
        for derivation in group.get("DerivationImageSequence") or []:
            for item in derivation.get("SourceImageSequence") or []:
                numbers = item.get("ReferencedFrameNumber")
                several = numbers if isinstance(numbers, MultiValue) else [numbers]
                frames = {int(number) for number in several if number is not None}
                found.setdefault(str(item.get("ReferencedSOPInstanceUID")), set()).update(frames)
    return found


def _read_values(file: Path, header: Dataset, frame: int, as_labels: bool) -> tuple[NDArray[Any], bool]:
    """Return the stored values of one frame, and whether they are red, green and blue."""
    index = _index_of(file, header, frame)
    photometric = str(header.get("PhotometricInterpretation"))[:16]
    if photometric not in (*GREY, *COLOUR, PALETTE):
        raise BadCase(
            f"{file.name}: its pixels are {photometric}, expected grey, RGB, YBR or PALETTE COLOR; export it "
            "as PNG"
        )
    with named_errors(file):
        dataset = open_pixels(file)
        values = decode(file, dataset, index, labels=as_labels)
        values = values.reshape(int(header.Rows), int(header.Columns), -1)
        if photometric == PALETTE and not as_labels:
            return _to_8_bits(np.asarray(apply_color_lut(values[..., 0], dataset))[..., :3]), True
        if photometric in COLOUR and values.shape[2] == 3:
            return _narrow(header, values), True
        return _narrow(header, values[..., 0]), False


def _index_of(file: Path, header: Dataset, frame: int) -> int:
    frames = count_frames(header)
    if not frame and frames > 1:
        raise BadCase(
            f"{file.name}: it is a clip of {frames} frames, expected one image; write the frame's number, 1 "
            f"to {frames}, into the column frame of the manifest"
        )
    if frame > frames:
        raise BadCase(
            f"{file.name}: frame {frame} does not exist, the file has {frames}; correct the column frame"
        )
    return max(frame - 1, 0)


def _require_one_display(file: Path, header: Dataset) -> None:
    """Check that the header does not say both that large values are bright and that they are dark."""
    if (
        header.get("PhotometricInterpretation") == "MONOCHROME2"
        and header.get("PresentationLUTShape") == "INVERSE"
    ):
        raise BadCase(
            f"{file.name}: it is MONOCHROME2 with a PresentationLUTShape of INVERSE, which contradict each "
            "other, expected MONOCHROME1 with INVERSE, or neither; export it as PNG, with air black"
        )


def _narrow(header: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """Return values of up to 8 bits as uint8, whatever the width of their words."""
    is_signed = bool(header.get("PixelRepresentation"))
    return values if _bits_of(header) > 8 or is_signed else values.astype(np.uint8)


def _bits_of(header: Dataset) -> int:
    return int(header.get("BitsStored") or header.BitsAllocated)


def _to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colours of a palette with 8 bits each; some tables of 16 bits use the lower 8 alone."""
    return (pixels >> 8 if pixels.max() > 255 else pixels).astype(np.uint8)


def _intensities(header: Dataset, values: NDArray[Any]) -> Pixels:
    """Return grey values in which bright is large, rescaled if the file says so."""
    if header.PhotometricInterpretation == "MONOCHROME1":
        bits, is_signed = _bits_of(header), bool(header.get("PixelRepresentation"))
        values = -1 - values if is_signed else values.dtype.type((1 << bits) - 1) - values
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    if (slope, intercept) == (1.0, 0.0):
        return values
    return (values * slope + intercept).astype(np.float32)


def spacing_of(header: Dataset) -> tuple[float, float]:
    """Return the distance between rows and between columns in mm; NaN where the file does not state it.

    It is PixelSpacing, else ImagerPixelSpacing (at the detector) without its magnification, else that of the
    regions of ultrasound, if all that state one in centimetres agree.
    """
    if (spacing := _pair(header.get("PixelSpacing"))) is not None:
        return spacing
    if (spacing := _pair(header.get("ImagerPixelSpacing"))) is not None:
        factor = float(header.get("EstimatedRadiographicMagnificationFactor") or 1)
        return (spacing[0] / factor, spacing[1] / factor) if factor > 0 else spacing
    regions = [_spacing_of_region(item) for item in header.get("SequenceOfUltrasoundRegions") or []]
    stated = {spacing for spacing in regions if spacing is not None}
    return stated.pop() if len(stated) == 1 else UNKNOWN


def _spacing_of_region(region: Dataset) -> tuple[float, float] | None:
    units = (region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection"))
    if units != (CENTIMETRES, CENTIMETRES):
        return None
    deltas_cm = (region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX"))
    if None in deltas_cm:
        return None
    return _pair([abs(float(delta)) * 10 for delta in deltas_cm])


def _pair(values: Any) -> tuple[float, float] | None:
    """Return two sizes above 0; None: the values are not such sizes."""
    try:
        rows, columns = (float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return (rows, columns) if 0 < rows < np.inf and 0 < columns < np.inf else None
