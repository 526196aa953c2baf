"""Slices as DICOM headers describe them: the position of each, and the scale of its stored values.

DICOM's own axes are LPS (PS3.3, C.7.6.2.1.1): the column index runs along the first three numbers of
ImageOrientationPatient, the row index along the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from flames_cli.arrays import Floats, Pixels
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import SEGMENTATIONS, count_frames, named_errors

SQUARE = 1e-2
"""Largest error of lengths and right angles of direction cosines: some writers use three digits."""


CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""UIDs of CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage."""

VOLUME_MODALITIES = ("CT", "MR", "PT")
"""Modalities whose images are slices: one without a position has lost it."""

VOLUME_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
"""UIDs of the classes of CT, MR and PET images."""

CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
"""Start of the UIDs of the classes of secondary captures; no other class starts like it."""

UNSPECIFIED = "the RescaleType of the CT is US (unspecified): its values may not be Hounsfield units"


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice, not yet decoded."""

    path: Path
    frame: int
    """Index in the file, from 0."""
    shape: tuple[int, int]
    """Numbers of rows and columns."""
    position: Floats
    """Centre of the first pixel, mm in LPS."""
    orientation: Floats
    """Direction along the column index, then along the row index: unit vectors in LPS."""
    spacing_mm: Floats
    """Distance between rows and between columns, mm."""
    thickness_mm: float
    """Thickness in mm; 1 if the file does not state it."""
    between_mm: float
    """Distance between slices in mm; 0 if the file does not state it."""
    slope: float
    intercept: float
    has_rescale: bool
    """True if the file states slope and intercept."""
    rescale_type: str
    """Unit of the intensities as the file states it, such as HU; empty: it states none."""
    turned: float | None
    """Value from which stored values are subtracted if small values are bright; else None."""

    @property
    def normal(self) -> Floats:
        """Unit vector along which slices are stacked."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    def intensities(self, stored: Pixels) -> Pixels:
        """Return the intensities of stored values (rows×columns)."""
        values = stored if self.turned is None else self.turned - stored.astype(np.float64)
        return values * self.slope + self.intercept


def describe_planes(path: Path, header: Dataset) -> list[Plane]:
    """Return the slices of one file.

    Raises:
        BadCase: the file is not a grey image, or does not state the positions of its slices.
    """
    with named_errors(path):
        photometric = str(header.get("PhotometricInterpretation"))[:16]
        # A label map may say in which colours its labels are shown.
        is_palette = photometric == "PALETTE COLOR" and header.get("SOPClassUID") in SEGMENTATIONS
        is_grey = photometric in ("MONOCHROME1", "MONOCHROME2") or is_palette
        if not is_grey or int(header.get("SamplesPerPixel") or 1) != 1:
            raise BadCase(f"{path.name}: its pixels are {photometric}, expected grey; export colour as PNG")
        return [_describe(path, header, frame) for frame in range(count_frames(header))]


def _describe(path: Path, header: Dataset, frame: int) -> Plane:
    scopes = _scopes(path, header, frame)
    spacing = _numbers(path, scopes, "PixelSpacing", 2)
    thickness = _numbers(path, scopes, "SliceThickness", 1, default=1.0)[0]
    if spacing.min() <= 0:
        raise BadCase(f"{path.name}: its PixelSpacing is {spacing.tolist()} mm, expected above 0")
    return Plane(
        path=path,
        frame=frame,
        shape=(int(header.Rows), int(header.Columns)),
        position=_numbers(path, scopes, "ImagePositionPatient", 3),
        orientation=_orientation(path, scopes),
        spacing_mm=spacing,
        thickness_mm=float(thickness) if thickness > 0 else 1.0,
        between_mm=abs(float(_numbers(path, scopes, "SpacingBetweenSlices", 1, default=0.0)[0])),
        slope=float(_numbers(path, scopes, "RescaleSlope", 1, default=1.0)[0]),
        intercept=float(_numbers(path, scopes, "RescaleIntercept", 1, default=0.0)[0]),
        has_rescale=all(_states(scopes, name) for name in ("RescaleSlope", "RescaleIntercept")),
        rescale_type=next((str(scope.RescaleType)[:16] for scope in scopes if scope.get("RescaleType")), ""),
        turned=_turned(header),
    )


def _states(scopes: Sequence[Dataset], keyword: str) -> bool:
    return any(scope.get(keyword) is not None for scope in scopes)


def _scopes(path: Path, header: Dataset, frame: int) -> list[Dataset]:
    """Return the data sets to search for a slice's values, in order: its groups, then the top level."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        if count_frames(header) > 1:
            raise BadCase(
                f"{path.name}: it contains {count_frames(header)} frames without a position each (a film?)"
            )
        return [header]
    if len(per_frame) != count_frames(header):
        raise BadCase(f"{path.name}: it describes {len(per_frame)} of {count_frames(header)} frames")
    groups = [per_frame[frame], *(header.get("SharedFunctionalGroupsSequence") or [])]
    nested = (item for group in groups for element in group if element.VR == "SQ" for item in element.value)
    return [*nested, header]


def _numbers(
    path: Path, scopes: Sequence[Dataset], keyword: str, count: int, default: float | None = None
) -> Floats:
    """Return the first value of that name: `count` finite numbers."""
    value = next((scope[keyword].value for scope in scopes if scope.get(keyword) is not None), default)
    if value is None:
        raise BadCase(
            f"{path.name}: it has no {keyword}, so its slice has no position; export the series again"
        )
    numbers = np.array(value, np.float64).ravel()
    if numbers.size != count or not np.isfinite(numbers).all():
        raise BadCase(f"{path.name}: its {keyword} is not {count} finite numbers; export the series again")
    return numbers


def _orientation(path: Path, scopes: Sequence[Dataset]) -> Floats:
    orientation = _numbers(path, scopes, "ImageOrientationPatient", 6)
    along_columns, along_rows = orientation[:3], orientation[3:]
    pairs = ((along_columns, along_columns), (along_rows, along_rows), (along_columns, along_rows))
    measures = [float(one @ other) for one, other in pairs]
    if not np.allclose(measures, [1, 1, 0], rtol=0, atol=SQUARE):
        raise BadCase(f"{path.name}: its ImageOrientationPatient is not two directions at a right angle")
    return orientation


def require_hounsfield(path: Path, header: Dataset, planes: Sequence[Plane]) -> tuple[str, ...]:
    """Check that the intensities of a CT file are Hounsfield units; return remarks.

    Raises:
        BadCase: the file states no rescale, or one to another unit.
    """
    if not is_ct(header):
        return ()
    if not all(plane.has_rescale and plane.slope for plane in planes):
        raise BadCase(
            f"{path.name}: it is CT without RescaleSlope and RescaleIntercept, so its values are not "
            "Hounsfield units; expected both; export the original series again, or convert it to NIfTI in HU"
        )
    units = {plane.rescale_type for plane in planes} - {"", "HU", "HU_MOD"}
    if units - {"US"}:
        raise BadCase(
            f"{path.name}: it is CT with values in {min(units - {'US'})} (RescaleType), expected HU; choose "
            "the series in Hounsfield units"
        )
    return (UNSPECIFIED,) if units else ()


def is_ct(header: Dataset) -> bool:
    """Return True if a file is CT by its modality or, if it names none, by its class."""
    modality = header.get("Modality")
    return bool(modality == "CT" if modality else header.get("SOPClassUID") in CT_CLASSES)


def is_slice(header: Dataset) -> bool:
    """Return True if an image is a slice by its class or modality, with or without a position.

    A capture of a screen keeps the modality of what it shows, and is none.
    """
    modality, uid = header.get("Modality"), header.get("SOPClassUID")
    if str(uid).startswith(CAPTURES):
        return False
    return is_ct(header) or modality in VOLUME_MODALITIES or uid in VOLUME_CLASSES


def has_position(header: Dataset) -> bool:
    """Return True if a file states the position of an image in space."""
    groups = [
        *(header.get("PerFrameFunctionalGroupsSequence") or [])[:1],
        *(header.get("SharedFunctionalGroupsSequence") or []),
    ]
    positions = [item for group in groups for item in group.get("PlanePositionSequence") or []]
    return any(item.get("ImagePositionPatient") is not None for item in (header, *positions))


def _turned(header: Dataset) -> float | None:
    """Return the largest value of MONOCHROME1, which shows small values bright; None for CT (HU)."""
    if header.PhotometricInterpretation != "MONOCHROME1" or is_ct(header):
        return None
    signed = int(header.get("PixelRepresentation") or 0)
    return -1.0 if signed else 2.0 ** int(header.BitsStored) - 1.0
