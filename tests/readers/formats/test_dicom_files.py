import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import _bare_syntax, is_dicom, list_files, read_header
from flames_cli.readers.formats.dicom_pixels import read_frames
from tests.support.phantoms.dicom_bytes import EXPLICIT, IMPLICIT, encode, image, write

SHAPE = (6, 5)
PIXELS = derive_rng(0, "pixels").integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_file_without_preamble_is_read(syntax, meta, tmp_path):
    path = write(tmp_path / "IM1", image("US", SHAPE, PIXELS.tobytes()), syntax, preamble=False, meta=meta)
    assert is_dicom(path)
    assert list_files(tmp_path) == [path]
    assert read_header(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_frames(path)[0], PIXELS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\0",
        b"\x02\0\x10\0UI\x14\0not a uid at all....",
        b"\x08\0\x16\0UI\x06\x001.2.3\0",
        b"\x08\0\x16\0\x06\0\0\x001.2.3\0",
        b"\x08\0" * 3000,
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        b"1.2.840.10008.5.1.4.1.1.2",
        bytes(128) + b"DICX" + bytes(200),
    ],
)
def test_other_files_are_not_taken_for_dicom(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert not is_dicom(path)
    with pytest.raises(BadCase, match="it is not a DICOM file, or is damaged"):
        list_files(path)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x02\0", b"\x08\0", b"\x08\0\x05\0CS"]))
def test_random_bytes_are_not_taken_for_dicom(content, start):
    assert _bare_syntax(start + content) == ""


@given(st.integers(0, 400))
def test_a_start_that_ends_early_gives_no_error(length):
    start = encode(image("US", SHAPE, PIXELS.tobytes()))[:length]
    assert _bare_syntax(start) in ("", EXPLICIT)


ENCODINGS = [
    ("4.57", "pylibjpeg and pylibjpeg-libjpeg"),
    ("4.70", "pylibjpeg and pylibjpeg-libjpeg"),
    ("4.201", "pylibjpeg and pylibjpeg-openjpeg"),
]


@pytest.mark.parametrize(("end", "package"), ENCODINGS)
def test_the_package_that_would_decode_a_file_is_named(end, package, tmp_path):
    file = image("US", SHAPE, (b"\xff\xd8 not decoded",))
    path = write(tmp_path / "a.dcm", file, f"1.2.840.10008.1.2.{end}")
    with pytest.raises(BadCase, match=f"install the Python packages {package}, or export it uncompressed"):
        read_header(path)


def test_no_package_is_named_for_a_video(tmp_path):
    path = write(tmp_path / "a.dcm", image("US", SHAPE, (b"video",)), "1.2.840.10008.1.2.4.102")
    with pytest.raises(BadCase, match="which cannot be decoded here; export it uncompressed"):
        read_header(path)


def test_jpeg_of_twelve_bits_names_its_package(tmp_path):
    """Pillow says that it decodes this encoding, and then fails on more than 8 bits."""
    file = image("US", SHAPE, (b"\xff\xd8 not decoded",), 16, stored=12, high=11)
    path = write(tmp_path / "a.dcm", file, "1.2.840.10008.1.2.4.51")
    with pytest.raises(BadCase, match=r"stored as JPEG Extended .* pylibjpeg and pylibjpeg-libjpeg"):
        read_header(path)


def test_another_format_called_dcm_is_named(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    path = (tmp_path / "a.png").rename(tmp_path / "a.dcm")
    with pytest.raises(
        BadCase, match=r"a\.dcm: it is not a DICOM file, .* \(its content is PNG; name it \.png\)"
    ):
        list_files(path)
