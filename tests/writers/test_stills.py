"""Masks of stills are PNG of the size at which viewers show the image."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import ReadOptions, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.inputs import InputImage, find_inputs, read_input
from flames_cli.writers.label import ModelLabel
from flames_cli.writers.masks import UPRIGHT, write_mask, write_probabilities
from tests.readers.formats.test_exif import jpeg, png
from tests.support.phantoms.tiff import Tiff, tiff_bytes

SHAPE = (12, 17)
LIMIT = 120
BY = ModelLabel("endoscopy", "0.1.0")


def draw() -> np.ndarray:
    return derive_rng(0, "stills").integers(0, 256, SHAPE).astype(np.uint8)


def find(folder: Path, name: str, content: bytes) -> InputImage:
    (folder / name).write_bytes(content)
    (found,) = find_inputs([folder / name]).inputs
    return found


def predict(image: InputImage) -> np.ndarray:
    (case,) = read_input(image, ReadOptions())
    return case.image > LIMIT


def bmp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(draw(), None)),
        ("a.tif", tiff_bytes(draw())),
        ("a.bmp", bmp(draw())),
        ("a.PNG", png(draw(), None)),
    ],
)
def test_the_mask_has_the_size_of_the_image_and_is_on_its_pixels(name, content, tmp_path):
    image = find(tmp_path, name, content)
    written = write_mask(predict(image), image, tmp_path / "mask", BY)
    assert (written.path.name, written.notes) == ("mask.png", ())
    loaded = Image.open(written.path)
    assert loaded.mode == "L"
    np.testing.assert_array_equal(np.asarray(loaded), np.where(draw() > LIMIT, 255, 0))
    (again,) = read_any(Source("a", "p", image.files[0], (written.path,), modality="US"), ReadOptions())
    np.testing.assert_array_equal(again.mask > 0, again.image > LIMIT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_the_mask_is_upright_as_viewers_show_the_image(kind, orientation, tmp_path):
    content = png(draw(), orientation) if kind == "png" else tiff_bytes(draw(), Tiff(orientation=orientation))
    image = find(tmp_path, "a.png" if kind == "png" else "a.tif", content)
    written = write_mask(predict(image), image, tmp_path / "mask", BY)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(image.files[0])))
    np.testing.assert_array_equal(np.asarray(Image.open(written.path)) > 0, shown > LIMIT)
    assert not Image.open(written.path).getexif()
    assert written.notes == ((UPRIGHT,) if orientation > 1 else ())
    (again,) = read_any(Source("a", "p", image.files[0], (written.path,), modality="US"), ReadOptions())
    np.testing.assert_array_equal(again.mask > 0, again.image > LIMIT)


def test_the_mask_of_a_jpeg_that_is_turned_has_its_upright_size(tmp_path):
    image = find(tmp_path, "a.jpg", jpeg(draw(), 6))
    written = write_mask(predict(image), image, tmp_path / "mask", BY)
    assert np.asarray(Image.open(written.path)).shape == SHAPE[::-1]
    assert written.notes == (UPRIGHT,)


def test_probabilities_have_16_bits_and_name_their_scale(tmp_path):
    image = find(tmp_path, "a.png", png(draw(), None))
    values = np.linspace(0, 1, draw().size).reshape(SHAPE)
    written = write_probabilities(values, image, tmp_path / "p", BY)
    loaded = Image.open(written.path)
    assert loaded.text["Description"] == (
        "tumour probability by FLAMES model endoscopy (0.1.0); probability = value / 65535"
    )
    np.testing.assert_allclose(np.asarray(loaded) / 65535, values, atol=0.51 / 65535)


def test_probabilities_beyond_0_and_1_by_rounding_are_cut_off(tmp_path):
    image = find(tmp_path, "a.png", png(draw(), None))
    written = write_probabilities(np.where(draw() > LIMIT, 1 + 1e-6, -1e-6), image, tmp_path / "p", BY)
    np.testing.assert_array_equal(np.asarray(Image.open(written.path)), np.where(draw() > LIMIT, 65535, 0))


def test_each_page_of_a_tiff_has_a_mask(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_bytes(draw(), Tiff(pages=3)))
    found = find_inputs([tmp_path / "a.tif"]).inputs
    paths = [write_mask(predict(one), one, tmp_path / one.name, BY).path for one in found]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "a/frame1.png",
        "a/frame2.png",
        "a/frame3.png",
    ]


def test_a_name_of_a_model_in_any_script_is_in_the_file(tmp_path):
    image = find(tmp_path, "a.png", png(draw(), None))
    written = write_mask(predict(image), image, tmp_path / "m", ModelLabel("肝臓", "1"))
    assert Image.open(written.path).text["Description"] == "tumour mask by FLAMES model 肝臓 (1)"


def test_a_name_with_dots_is_not_cut(tmp_path):
    image = find(tmp_path, "a.1.png", png(draw(), None))
    assert image.name == "a.1"
    assert write_mask(predict(image), image, tmp_path / "out" / image.name, BY).path.name == "a.1.png"


def test_a_mask_of_several_axes_is_a_fault_of_the_caller(tmp_path):
    image = find(tmp_path, "a.png", png(draw(), None))
    with pytest.raises(ValueError, match="the mask has 3 axes, expected 2"):
        write_mask(np.zeros((1, *SHAPE)), image, tmp_path / "m", BY)
