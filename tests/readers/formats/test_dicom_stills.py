import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_stills import is_still, read_still, read_still_values
from flames_cli.readers.formats.images import read_image
from tests.support.phantoms import dicom_bytes
from tests.support.phantoms.dicom_bytes import JPEG_BASELINE, image, sequence, write

SHAPE = (10, 12)


def grey(bits: int = 8) -> np.ndarray:
    values = derive_rng(0, "still", bits).integers(0, 1 << bits, SHAPE)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def colours() -> np.ndarray:
    return derive_rng(0, "colour").integers(0, 256, (*SHAPE, 3)).astype(np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def ybr(rgb: np.ndarray) -> np.ndarray:
    """YBR_FULL (PS3.3, C.7.6.3.1.2)."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.clip(np.rint(rgb @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def colour_image(photometric: str, pixels: object, **others: object) -> dict:
    return image("US", SHAPE, pixels, photometric=photometric, samples=3, planar=0, **others)


def test_grey_ultrasound_keeps_its_bytes(tmp_path):
    path = write(tmp_path / "a.dcm", image("US", SHAPE, grey().tobytes()))
    assert is_still(path)
    still = read_still(path, colour=False)
    np.testing.assert_array_equal(still.pixels, grey())
    assert still.pixels.dtype == np.uint8
    assert np.isnan(still.spacing_mm).all()
    np.testing.assert_array_equal(read_still(path, colour=True).pixels, np.stack([grey()] * 3, axis=2))


def test_the_only_file_of_a_folder_is_a_still(tmp_path):
    write(tmp_path / "IM0001", image("US", SHAPE, grey().tobytes()))
    assert is_still(tmp_path)
    np.testing.assert_array_equal(read_still(tmp_path, colour=False).pixels, grey())


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_a_slice_that_has_lost_its_position_is_no_still(kind, tmp_path):
    assert not is_still(write(tmp_path / "a.dcm", image(kind, SHAPE, grey().tobytes())))


def test_a_still_with_a_position_is_a_slice_but_a_named_frame_is_not(tmp_path):
    placed = image("US", SHAPE, grey().tobytes(), position=[0, 0, 0], orientation=[1, 0, 0, 0, 1, 0])
    path = write(tmp_path / "a.dcm", placed)
    assert not is_still(path)
    assert is_still(path, frame=1)


@pytest.mark.parametrize("bits", [8, 12])
def test_where_small_values_are_bright_they_are_inverted(bits, tmp_path):
    allocated = 8 if bits == 8 else 16
    file = image(
        "MG", SHAPE, grey(bits).tobytes(), allocated, photometric="MONOCHROME1", stored=bits, high=bits - 1
    )
    pixels = read_still(write(tmp_path / "a.dcm", file), colour=False).pixels
    np.testing.assert_array_equal(pixels, (1 << bits) - 1 - grey(bits))
    assert pixels.dtype == grey(bits).dtype


def test_eight_bits_in_words_of_sixteen_are_eight_bits(tmp_path):
    file = image("US", SHAPE, grey().astype("<u2").tobytes(), 16, stored=8, high=7)
    pixels = read_still(write(tmp_path / "a.dcm", file), colour=False).pixels
    np.testing.assert_array_equal(pixels, grey())
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_become_grey_by_the_luma_of_other_stills(planar, tmp_path):
    rgb = colours()
    stored = rgb if planar == 0 else rgb.transpose(2, 0, 1)
    path = write(
        tmp_path / "a.dcm", {**colour_image("RGB", stored.tobytes()), dicom_bytes.PLANAR: ("US", planar)}
    )
    Image.fromarray(rgb).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_still(path, colour=True).pixels, rgb)
    np.testing.assert_array_equal(read_still(path, colour=False).pixels, read_image(tmp_path / "a.png"))


def test_ybr_becomes_rgb(tmp_path):
    path = write(tmp_path / "a.dcm", colour_image("YBR_FULL", ybr(colours()).tobytes()))
    pixels = read_still(path, colour=True).pixels
    assert np.abs(pixels.astype(int) - colours()).max() <= 3


def test_ybr_with_half_of_its_colours_becomes_rgb(tmp_path):
    pairs = np.repeat(colours()[:, ::2], 2, axis=1)  # two pixels share a colour, so that nothing is lost
    values = ybr(pairs).reshape(-1, 2, 3)
    stored = np.stack([values[:, 0, 0], values[:, 1, 0], values[:, 0, 1], values[:, 0, 2]], axis=1)
    path = write(tmp_path / "a.dcm", colour_image("YBR_FULL_422", stored.tobytes()))
    pixels = read_still(path, colour=True).pixels
    assert np.abs(pixels.astype(int) - pairs).max() <= 3


def jpeg(rgb: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:The .0028,0004.*:UserWarning")
@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_jpeg_has_the_colours_of_its_stream_even_if_the_header_is_wrong(photometric, tmp_path):
    smooth = cv2.GaussianBlur(colours(), (0, 0), 4)
    path = write(tmp_path / "a.dcm", colour_image(photometric, (jpeg(smooth),)), JPEG_BASELINE)
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth))
    expected = read_image(tmp_path / "a.jpg", colour=True).astype(int)
    assert np.abs(read_still(path, colour=True).pixels - expected).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_gives_colours_to_indices(bits, tmp_path):
    tables = derive_rng(0, "palette").integers(0, 256, (3, 256)).astype(np.uint8)
    words = tables if bits == 8 else tables.astype("<u2") << 8
    palette = {
        **{(0x0028, 0x1101 + channel): ("US", [256, 0, bits]) for channel in range(3)},
        **{(0x0028, 0x1201 + channel): ("OW", words[channel].tobytes()) for channel in range(3)},
    }
    file = {**image("US", SHAPE, grey().tobytes(), photometric="PALETTE COLOR", padding=0), **palette}
    path = write(tmp_path / "a.dcm", file)
    expected = np.moveaxis(tables[:, grey()], 0, 2)
    np.testing.assert_array_equal(read_still(path, colour=True).pixels, expected)
    np.testing.assert_array_equal(read_still(path, colour=False).pixels, luma(np.ascontiguousarray(expected)))
    np.testing.assert_array_equal(read_still_values(path, path), grey())


def region(rows: float, columns: float, unit: int = 3) -> dict:
    return {
        (0x0018, 0x6024): ("US", unit),
        (0x0018, 0x6026): ("US", unit),
        (0x0018, 0x602C): ("FD", columns),
        (0x0018, 0x602E): ("FD", rows),
    }


def read_spacing(tmp_path: Path, regions: list[dict] | None = None, **others: object) -> tuple[float, float]:
    elements = image("US", SHAPE, grey().tobytes(), **others)
    if regions is not None:
        elements[0x0018, 0x6011] = sequence(*regions)
    return read_still(write(tmp_path / "a.dcm", elements), colour=False).spacing_mm


def test_the_spacing_is_that_of_the_file(tmp_path):
    assert read_spacing(tmp_path, spacing=[0.2, 0.3]) == (0.2, 0.3)
    assert read_spacing(tmp_path, imager_spacing=[0.2, 0.3]) == (0.2, 0.3)
    assert read_spacing(tmp_path, imager_spacing=[0.2, 0.3], magnification=2) == (0.1, 0.15)
    assert read_spacing(tmp_path, spacing=[0.2, 0.3], imager_spacing=[0.4, 0.4]) == (0.2, 0.3)


def test_the_spacing_of_ultrasound_is_that_of_its_regions_if_they_agree(tmp_path):
    assert read_spacing(tmp_path, [region(0.02, -0.03)]) == pytest.approx((0.2, 0.3))
    assert read_spacing(tmp_path, [region(0.02, 0.03), region(0.02, 0.03)]) == pytest.approx((0.2, 0.3))
    assert read_spacing(tmp_path, [region(0.02, 0.03), region(4, 4, unit=4)]) == pytest.approx((0.2, 0.3))
    assert np.isnan(read_spacing(tmp_path, [region(0.02, 0.03), region(0.02, 0.04)])).all()
    assert np.isnan(read_spacing(tmp_path, [region(0.02, 0.03, unit=4)])).all()
    assert np.isnan(read_spacing(tmp_path, [], spacing=[0, 1])).all()


def clip(frames: int = 3) -> np.ndarray:
    return derive_rng(0, "clip").integers(0, 256, (frames, *SHAPE)).astype(np.uint8)


def test_a_clip_needs_the_number_of_a_frame(tmp_path):
    path = write(tmp_path / "a.dcm", image("US clip", SHAPE, clip().tobytes(), frames=3))
    assert is_still(path)
    with pytest.raises(
        BadCase, match="it is a clip of 3 frames, expected one image; write the frame's number, 1 to 3"
    ):
        read_still(path, colour=False)
    with pytest.raises(BadCase, match="frame 4 does not exist, the file has 3"):
        read_still(path, colour=False, frame=4)
    for frame in (1, 2, 3):
        np.testing.assert_array_equal(read_still(path, colour=False, frame=frame).pixels, clip()[frame - 1])


def test_a_frame_of_a_compressed_clip_is_decoded(tmp_path):
    frames = [cv2.GaussianBlur(colours() // number, (0, 0), 4) for number in (1, 2, 3)]
    fragments = tuple(jpeg(frame) for frame in frames)
    path = write(tmp_path / "a.dcm", colour_image("YBR_FULL_422", fragments, frames=3), JPEG_BASELINE)
    pixels = read_still(path, colour=True, frame=2).pixels
    assert np.abs(pixels.astype(int) - frames[1]).mean() < 6


def test_the_mask_of_a_clip_has_one_frame_or_as_many(tmp_path):
    path = write(tmp_path / "a.dcm", image("US clip", SHAPE, clip().tobytes(), frames=3))
    many = write(tmp_path / "many.dcm", image("SC", SHAPE, clip().tobytes(), frames=3))
    one = write(tmp_path / "one.dcm", image("SC", SHAPE, grey().tobytes()))
    two = write(tmp_path / "two.dcm", image("SC", SHAPE, clip(2).tobytes(), frames=2))
    np.testing.assert_array_equal(read_still_values(many, path, frame=2), clip()[1])
    np.testing.assert_array_equal(read_still_values(one, path, frame=2), grey())
    with pytest.raises(BadCase, match="the mask has 2 frames, its image 3; expected as many, or one"):
        read_still_values(two, path, frame=2)


def test_a_mask_counts_as_it_is_stored(tmp_path):
    path = write(tmp_path / "a.dcm", image("SC", SHAPE, grey().tobytes(), padding=int(grey().max())))
    np.testing.assert_array_equal(read_still_values(path, path), grey())


def test_a_mask_whose_label_0_is_shown_white_is_rejected(tmp_path):
    path = write(tmp_path / "a.dcm", image("SC", SHAPE, grey().tobytes(), photometric="MONOCHROME1"))
    with pytest.raises(BadCase, match="the mask is MONOCHROME1, which shows 0 white, expected MONOCHROME2"):
        read_still_values(path, path)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_capture_of_a_screen_is_a_still_of_any_modality(modality, tmp_path):
    captured = {**image("SC", SHAPE, grey().tobytes()), dicom_bytes.MODALITY: ("CS", modality)}
    path = write(tmp_path / "a.dcm", captured)
    assert is_still(path)
    np.testing.assert_array_equal(read_still(path, colour=False).pixels, grey())


def test_a_header_that_says_bright_and_dark_is_rejected(tmp_path):
    inverse = (0x2050, 0x0020), ("CS", "INVERSE")
    path = write(tmp_path / "a.dcm", {**image("CR", SHAPE, grey().tobytes()), inverse[0]: inverse[1]})
    with pytest.raises(
        BadCase, match=r"MONOCHROME2 with a PresentationLUTShape of INVERSE.*export it as PNG"
    ):
        read_still(path, colour=False)
    dark = image("CR", SHAPE, grey().tobytes(), photometric="MONOCHROME1")
    path = write(tmp_path / "b.dcm", {**dark, inverse[0]: inverse[1]})
    np.testing.assert_array_equal(read_still(path, colour=False).pixels, 255 - grey())


def test_intensities_in_a_table_are_rejected(tmp_path):
    table = {(0x0028, 0x3002): ("US", [256, 0, 8]), (0x0028, 0x3006): ("OW", bytes(range(256))[::-1])}
    stored = {**image("CR", SHAPE, grey().tobytes()), (0x0028, 0x3000): sequence(table)}
    with pytest.raises(BadCase, match=r"in a table \(ModalityLUTSequence\).*DCMTK"):
        read_still(write(tmp_path / "a.dcm", stored), colour=False)


def test_other_colour_spaces_are_rejected_without_the_patients_name(tmp_path):
    path = write(tmp_path / "a.dcm", colour_image("HSV", colours().tobytes()))
    with pytest.raises(
        BadCase, match=r"a\.dcm: its pixels are HSV, expected grey, RGB, YBR or PALETTE"
    ) as refused:
        read_still(path, colour=False)
    assert "Secret" not in str(refused.value)


def test_rescaled_values_are_those_of_the_header(tmp_path):
    file = image("CR", SHAPE, grey(12).tobytes(), 16, stored=12, high=11, slope=2, intercept=-5)
    pixels = read_still(write(tmp_path / "a.dcm", file), colour=False).pixels
    np.testing.assert_array_equal(pixels, grey(12) * 2.0 - 5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["grey", "colour", "clip", "bare"]),
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=4)), max_size=8),
    cut=st.integers(0, 2**16),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_still_of_any_bytes_is_read_or_rejected(kind, edits, cut, tmp_path):
    path = tmp_path / "damaged.dcm"
    if kind == "clip":
        write(path, image("US clip", SHAPE, clip().tobytes(), frames=3))
    elif kind == "colour":
        write(path, colour_image("YBR_FULL", colours().tobytes()))
    else:
        write(path, image("US", SHAPE, grey().tobytes()), preamble=kind == "grey", meta=kind == "grey")
    content = bytearray(path.read_bytes())
    for place, new in edits:
        start = place % len(content)
        content[start : start + len(new)] = new
    path.write_bytes(content[: cut % (4 * len(content))])
    try:
        still = read_still(path, colour=False, frame=2 if kind == "clip" else 0)
    except BadCase:
        return
    assert still.pixels.ndim == 2
    assert np.isfinite(still.pixels).all()
