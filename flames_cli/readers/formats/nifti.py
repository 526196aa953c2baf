"""Read NIfTI volumes completely, so that an incomplete or damaged file is detected, and turn them to RAS."""

import gzip
import logging
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from flames_cli.core.imaging.labels import count_labels
from flames_cli.core.imaging.volumes import to_ras
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.content import describe, recognise
from flames_cli.readers.formats.volumes import Volume

_DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    cast(type[Exception], IsalError),  # its stub declares an instance
)

MAX_BYTES = 8 * 2**30
"""Largest size that a header may state; nothing is allocated for more."""

MAX_BESIDE = 2**26
"""Largest number of bytes before the voxels (header extensions) and after them: small files may inflate."""

MAX_INFLATION = 1032
"""Largest number of bytes that gzip makes of one (zlib.net, Technical Details); no more is allocated."""

GZIP_START = b"\x1f\x8b"

_MAGIC, _MAGIC_2 = b"n+1\0", b"n+2\0\r\n\x1a\n"
"""Marks of NIfTI-1 at byte 344 and of NIfTI-2 at byte 4, of a file that also contains the voxels."""
_MM_OF_UNITS = {1: 1e3, 3: 1e-3}
"""Millimetres in a metre and in a micrometre, by NIfTI's codes; all other codes are taken as mm."""
_SILENT = logging.Logger("nifti", logging.CRITICAL + 1)
"""Logger that drops nibabel's notes on fields that it corrects; the fields that matter are checked here."""


def read_volume(path: Path, channel: int | None = 0) -> Volume:
    """Return channel `channel` of a 3D or 4D NIfTI file (NIfTI-1 or 2, plain or gzip), reoriented to RAS.

    Whether the file is compressed is decided by its content. Further axes of length 1 are left out.

    For a mask, `channel` is None: it must have one channel, since several may be several structures.

    Raises:
        BadCase: missing, cut short, damaged (gzip's checksum is verified), a header that states a wrong
            size, values that are not finite, neither 3D nor 4D, a file of another kind, or several channels
            for None.
    """
    with _named_errors(path):
        if path.exists() and not path.is_file():
            raise BadCase(f"{path.name}: it is not a file; expected NIfTI")
        with _open(path) as stream:
            header, data = _read_checked(path, stream)
        voxels = _channel(path, header, data, channel)
        affine = _affine_in_mm(header)
        codes = nib.aff2axcodes(affine)
    if not (np.isfinite(affine).all() and all(codes)):
        raise BadCase(f"{path.name}: its header has no orientation that makes sense; fetch it again")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise BadCase(
            f"{path.name}: it contains voxels that are not finite, expected numbers; replace NaN and "
            "infinity, for example with 0 outside of the body"
        )
    axes = "".join(codes)
    return Volume(to_ras(voxels, axes), affine, axes)


def read_volume_header(path: Path) -> nib.Nifti1Header:
    """Return the header of a file that `read_volume` can read; the voxels are not read.

    Raises:
        BadCase: the header cannot be right, or the file is of another kind.
    """
    with _named_errors(path), _open(path) as stream:
        header = _read_header(path, stream)
        _claimed_bytes(path, header)
    return header


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BadCase(f"{path.name}: there is no such file") from error
    except _DAMAGED as error:
        raise BadCase(f"{path.name}: the gzip file is damaged or cut short; fetch it again") from error
    except (OSError, WrapStructError, HeaderDataError) as error:
        raise BadCase(
            f"{path.name}: cannot be read as NIfTI ({type(error).__name__}); it is damaged, fetch it again"
        ) from error
    except (ValueError, OverflowError) as error:
        raise BadCase(f"{path.name}: its header cannot be right ({error})") from error
    except MemoryError as error:
        raise BadCase(f"{path.name}: it needs more memory than there is; use a larger machine") from error


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(GZIP_START)) == GZIP_START


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], igzip.open(path)) if _is_zipped(path) else path.open("rb")


def _read_checked(path: Path, stream: IO[bytes]) -> tuple[nib.Nifti1Header, bytes]:
    """Return header and voxel bytes; read to the end of the stream, where gzip compares its checksum."""
    header = _read_header(path, stream)
    size, offset = _claimed_bytes(path, header)
    # Four bytes after the header state whether extensions follow.
    stream.read(max(offset, header.sizeof_hdr + 4) - header.sizeof_hdr)
    data = stream.read(size)
    if len(data) < size:
        raise BadCase(f"{path.name}: it contains {len(data)} bytes of voxels, its header claims {size}")
    rest = 0
    while more := len(stream.read(2**20)):
        rest += more
        if rest > MAX_BESIDE:
            raise BadCase(
                f"{path.name}: its voxels end at byte {offset + size}, more than {MAX_BESIDE // 2**20} MiB "
                "follow; its header is wrong, fetch it again"
            )
    return header, data


def _read_header(path: Path, stream: IO[bytes]) -> nib.Nifti1Header:
    """Read the header alone: the extensions after it may have any size, and are not needed."""
    start = stream.read(nib.Nifti1Header.sizeof_hdr)
    header: nib.Nifti1Header
    if start.startswith(_MAGIC_2, 4):
        rest = stream.read(nib.Nifti2Header.sizeof_hdr - len(start))
        header = nib.Nifti2Header(start + rest, check=False)
    elif start.startswith(_MAGIC, 344):
        header = nib.Nifti1Header(start, check=False)
    else:
        raise BadCase(f"{path.name}: cannot be read as NIfTI ({describe(recognise(start))})")
    header.check_fix(_SILENT)
    return header


def _claimed_bytes(path: Path, header: nib.Nifti1Header) -> tuple[int, int]:
    """Return the number of voxel bytes that the header states, and the offset of the first."""
    shape = _shape(header)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise BadCase(
            f"{path.name}: its shape is {shape}, expected 3 or 4 axes; give one image a third axis of length "
            "1, and save one of several vectors as a file of its own"
        )
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    if dtype.kind not in "iuf":
        raise BadCase(
            f"{path.name}: its voxels are of type {dtype}, expected one number each; save one channel, or "
            "the magnitude, as a file of its own"
        )
    size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    if size > MAX_BYTES:
        raise BadCase(f"{path.name}: its header claims a shape of {shape}, {size / 2**30:.0f} GiB")
    if offset > MAX_BESIDE:
        raise BadCase(f"{path.name}: its header claims that voxels start at byte {offset}")
    held = path.stat().st_size
    if size > held * (MAX_INFLATION if _is_zipped(path) else 1):
        raise BadCase(f"{path.name}: its header claims {size} bytes of voxels, the file has {held} in all")
    return size, offset


def _affine_in_mm(header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Return the matrix from voxels to mm; files of microscopes may state other units."""
    affine: NDArray[np.float64] = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _MM_OF_UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Return the shape without axes of length 1 after the third."""
    shape = tuple(int(side) for side in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _channel(path: Path, header: nib.Nifti1Header, data: bytes, channel: int | None) -> NDArray[Any]:
    shape = _shape(header)
    if channel is None and len(shape) > 3:
        raise BadCase(
            f"{path.name}: the mask has {shape[3]} channels, expected one; save the one of the tumour as a "
            "file of its own, or join them"
        )
    channel = channel or 0
    voxels: NDArray[Any] = np.frombuffer(data, header.get_data_dtype()).reshape(shape, order="F")
    if len(shape) == 4:
        if channel >= shape[3]:
            raise BadCase(f"{path.name}: it has {shape[3]} channels, expected at least {channel + 1}")
        voxels = voxels[..., channel]
    elif channel > 0:
        raise BadCase(f"{path.name}: it has one channel, expected at least {channel + 1}")
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept or 0.0) == (1.0, 0.0):
        return voxels
    # Not float64, which a CT would be without need; a float64 file stays what it is.
    precision = voxels.dtype.newbyteorder("=") if voxels.dtype.kind == "f" else np.float32
    with np.errstate(over="ignore"):
        scaled: NDArray[Any] = np.multiply(voxels, slope, dtype=precision)
        scaled += intercept or 0.0
    return scaled


def read_labels(path: Path, allowed: Set[int]) -> Volume:
    """Return the labels of a volume, all of them among `allowed`, as whole numbers.

    Raises:
        BadCase: see `read_volume`; or a label is not known, or not whole.
    """
    volume = read_volume(path, None)
    try:
        values = set(count_labels(volume.voxels))
    except ValueError as error:
        raise BadCase(f"{path.name}: {error}; restore it from the download") from error
    if not values <= allowed:
        unknown = sorted(values - allowed)[:5]
        raise BadCase(f"{path.name}: the mask contains the labels {unknown}, expected only {sorted(allowed)}")
    if volume.voxels.dtype.kind == "f":  # a label of 1.9999 is 2
        return replace(volume, voxels=np.rint(volume.voxels))
    return volume
