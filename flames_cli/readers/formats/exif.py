"""Compare the EXIF orientations of an image and its masks, which may not have been turned together."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.images import DAMAGE, FORMATS, JPEG_START
from flames_cli.readers.formats.masks import OtherShape
from flames_cli.readers.formats.png import SIGNATURE
from flames_cli.readers.formats.tiff_directory import ORIENTATION, is_tiff, read_directory

_EXIF = b"Exif\0\0"
_MARKER, _APP1, _START_OF_SCAN = 0xFF, 0xE1, 0xDA

_TURNS = {
    2: "mirrors {}",
    3: "turns {} by 180°",
    4: "mirrors {} upside down",
    5: "turns {} by 90° and mirrors it",
    6: "turns {} by 90°",
    7: "turns {} by 90° and mirrors it",
    8: "turns {} by 90°",
}
"""Effect of each EXIF orientation."""


def read_orientation(path: Path) -> int:
    """Return the EXIF orientation by which an image is turned upright, 1 to 8; 1 if it is not turned."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(SIGNATURE))
            if start.startswith(JPEG_START):
                has_tag = _has_exif_segment(stream)
            else:
                has_tag = start == SIGNATURE or is_tiff(start)
            if not has_tag:
                return 1
            stream.seek(0)
            orientation = _orientation_in(stream.read())
    except DAMAGE:
        return 1
    return orientation if orientation in _TURNS else 1


def _has_exif_segment(stream: BinaryIO) -> bool:
    """Return whether a JPEG has EXIF before its pixels; only the headers of its segments are read."""
    position = 2
    while True:
        stream.seek(position)
        head = stream.read(10)
        if len(head) < 10 or head[0] != _MARKER:
            stream.seek(0)
            return _EXIF in stream.read()
        if head[1] == _START_OF_SCAN:
            return False
        if head[1] == _APP1 and head[4:] == _EXIF:
            return True
        position += 2 + int.from_bytes(head[2:4], "big")


def _orientation_in(data: bytes) -> int:
    if is_tiff(data):
        return read_directory(data).first(ORIENTATION)
    if data.startswith(SIGNATURE) and b"eXIf" not in data:
        return 1
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.load()  # the tag of a PNG may follow its pixels
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def compare_orientations(image: Path, masks: Sequence[Path]) -> tuple[str, ...]:
    """Return a remark if the EXIF tags of an image and one of its masks turn them differently, else none."""
    own = read_orientation(image)
    others = {read_orientation(mask) for mask in masks} - {own}
    if not others:
        return ()
    if own == 1:
        return (f"the EXIF tag {_TURNS[others.pop()].format('the mask')}, and the image has no such tag",)
    tag = "no such tag" if others == {1} else "another tag"
    return (f"the EXIF tag {_TURNS[own].format('the image')}, and the mask has {tag}",)


@contextmanager
def explained_shapes(image: Path, masks: Sequence[Path]) -> Iterator[None]:
    """Add different EXIF orientations, if there are any, to the error that a mask has another shape."""
    try:
        yield
    except OtherShape as error:
        if not (reasons := compare_orientations(image, masks)):
            raise
        raise BadCase(f"{error}: {reasons[0]}; save both upright and without the tag") from error
