"""Images that their EXIF tag turns, with masks that have no such tag or another."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase, ReadOptions, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.formats.exif import compare_orientations, read_orientation
from flames_cli.readers.formats.stills import read_still
from tests.support.phantoms.tiff import Tiff, tiff_bytes

ORIENTATIONS = range(1, 9)


def draw(height: int = 24, width: int = 32) -> np.ndarray:
    return derive_rng(0, "exif").integers(0, 256, (height, width)).astype(np.uint8)


def lesion(height: int = 24, width: int = 32) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[4:9, 4:11] = 255
    return mask


def exif_bytes(orientation: int, order: str = "<") -> bytes:
    """Return an EXIF block with this one tag."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return start + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def jpeg(pixels: np.ndarray, orientation: int | None, order: str = "<", before: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    plain = buffer.getvalue()
    if orientation is None:
        return plain
    block = b"Exif\0\0" + exif_bytes(orientation, order)
    return plain[:2] + before + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def png(pixels: np.ndarray, orientation: int | None, is_late: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    plain = buffer.getvalue()
    if orientation is None:
        return plain
    block = exif_bytes(orientation)
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    at = plain.index(b"IEND" if is_late else b"IDAT") - 4
    return plain[:at] + chunk + plain[at:]


def pair(folder: Path, image: bytes, mask: bytes) -> Source:
    (folder / "a").write_bytes(image)
    (folder / "m").write_bytes(mask)
    return Source("a", "p", folder / "a", (folder / "m",), modality="US")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_tag_is_found_in_every_format(orientation, tmp_path):
    path = tmp_path / "a"
    comment = b"\xff\xfe" + struct.pack(">H", 65535) + b"\xff\xda" * 32766 + b"\0"
    for content in (
        jpeg(draw(), orientation),
        jpeg(draw(), orientation, ">"),
        jpeg(draw(), orientation, before=comment),
        png(draw(), orientation),
        png(draw(), orientation, is_late=True),
        tiff_bytes(draw(), Tiff(orientation=orientation)),
        tiff_bytes(draw(), Tiff(orientation=orientation, order=">", is_big=True)),
    ):
        path.write_bytes(content)
        assert read_orientation(path) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_a_tag_without_meaning_turns_nothing(orientation, tmp_path):
    (tmp_path / "a").write_bytes(jpeg(draw(), orientation))
    assert read_orientation(tmp_path / "a") == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"II*\0", b"text", png(draw(), 6)[:60]])
def test_damaged_and_other_files_have_no_orientation(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert read_orientation(tmp_path / "a") == 1
    assert read_orientation(tmp_path / "gone") == 1


@pytest.mark.parametrize(
    ("orientation", "turn"), [(2, "mirrors {}"), (3, "turns {} by 180°"), (4, "mirrors {} upside down")]
)
def test_an_image_that_is_turned_without_its_mask_has_a_remark(orientation, turn, tmp_path):
    source = pair(tmp_path, jpeg(draw(), orientation), png(lesion(), None))
    for (case,) in (read_any(source, ReadOptions()), read_still(source, ReadOptions(), "m")):
        assert case.notes == (f"the EXIF tag {turn.format('the image')}, and the mask has no such tag",)


def test_a_mask_that_is_turned_without_its_image_has_a_remark(tmp_path):
    source = pair(tmp_path, png(draw(), None), png(lesion(), 3))
    ((case,), expected) = read_any(source, ReadOptions()), lesion()[::-1, ::-1] > 0
    assert case.notes == ("the EXIF tag turns the mask by 180°, and the image has no such tag",)
    np.testing.assert_array_equal(case.mask > 0, expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_that_is_turned_with_its_mask_has_none(orientation, tmp_path):
    source = pair(tmp_path, jpeg(draw(), orientation), png(lesion(), orientation))
    (case,) = read_any(source, ReadOptions())
    assert case.notes == ()


def test_masks_are_compared_one_by_one(tmp_path):
    source = pair(tmp_path, png(draw(), 3), png(lesion(), 3))
    (tmp_path / "n").write_bytes(png(lesion(), 2))
    assert compare_orientations(source.image, (*source.masks, tmp_path / "n")) == (
        "the EXIF tag turns the image by 180°, and the mask has another tag",
    )


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_another_shape_is_explained_by_the_tag(orientation, tmp_path):
    source = pair(tmp_path, jpeg(draw(), orientation), png(lesion(), None))
    message = r"the mask is 24×32, its image 32×24: the EXIF tag turns the image by 90°.*; save both"
    with pytest.raises(BadCase, match=message):
        read_any(source, ReadOptions())
    with pytest.raises(BadCase, match=message):
        read_still(source, ReadOptions(), "m")


def test_another_shape_without_a_tag_has_no_such_reason(tmp_path):
    source = pair(tmp_path, jpeg(draw(), None), png(lesion(32, 24), None))
    with pytest.raises(BadCase, match=r"its image 24×32$"):
        read_any(source, ReadOptions())
