import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.imaging.near_duplicates import (
    COPY_BITS,
    NEAR_BITS,
    PHASH_SIZE,
    cluster_near_duplicates,
)
from flames_cli.core.rng import derive_rng
from flames_cli.readers.busi import BUSI
from flames_cli.readers.formats.fingerprints import content_hash, orientation_hashes, perceptual_hash
from tests.support.raw_cases import iter_raw_cases

KVASIR = Path(__file__).parents[4] / "shared" / "data" / "kvasir" / "images"


@pytest.fixture(scope="module")
def scans(phantom_raw):
    """Images of distinct patients: the phantoms' copy, the last of the malignant, is left out."""
    return [case.image for case in iter_raw_cases(BUSI, phantom_raw["busi"]) if case.case != "malignant (3)"]


def resave(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int((perceptual_hash(one) != perceptual_hash(other)).sum())


def test_equal_images_have_equal_content_whatever_their_memory_layout(scans):
    image = scans[0]
    assert content_hash(image) == content_hash(np.asfortranarray(image.copy()))
    assert content_hash(image) == content_hash(image[::-1][::-1])


def test_one_grey_level_shape_or_type_changes_the_content():
    image = np.zeros((2, 6), np.uint8)
    other = image.copy()
    other[0, 0] = 1
    variants = [image, other, image.reshape(3, 4), image.view(np.int8), image.view(np.uint16)]
    assert len({content_hash(variant) for variant in variants}) == len(variants)


def test_a_perceptual_hash_is_a_row_of_bits(scans):
    bits = perceptual_hash(scans[0])
    assert bits.shape == (PHASH_SIZE**2,)
    assert bits.dtype == np.bool_


@pytest.mark.parametrize("shape", [(64, 64), (150, 120), (100, 190, 3)])
def test_a_picture_without_a_frame_has_the_hash_of_imagehash(shape):
    image = derive_rng(0, "pictures").integers(100, 256, shape, np.uint8)
    expected = imagehash.phash(Image.fromarray(image), hash_size=PHASH_SIZE).hash.ravel()
    np.testing.assert_array_equal(perceptual_hash(image), expected)


@pytest.mark.parametrize("index", range(6))
def test_saving_again_and_brightening_keep_an_image_near(index, scans):
    image = scans[index]
    brighter = np.clip(image.astype(int) * 1.05 + 10, 0, 255).astype(np.uint8)
    assert distance(image, resave(image, 60)) <= NEAR_BITS
    assert distance(image, resave(brighter, 80)) <= NEAR_BITS


def test_other_patients_are_far(scans):
    distances = [distance(scans[i], scans[j]) for i in range(8) for j in range(i)]
    assert min(distances) > NEAR_BITS


def behind_frame(image: np.ndarray, shift: int = 0) -> np.ndarray:
    """Return the image inside an octagonal black frame, as an endoscope shows it."""
    height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    cut = min(height, width) // 5 + shift
    near = [rows + columns, rows + width - columns, height - rows + columns, height - rows + width - columns]
    framed = np.zeros((height + 30, width + 80), np.uint8)
    framed[15 + shift : 15 + shift + height, 40:-40] = np.where(np.min(near, axis=0) > cut, image, 2)
    return framed


def test_different_pictures_behind_one_frame_are_far(scans):
    bright = [np.clip(scan.astype(int) + 60, 0, 255).astype(np.uint8) for scan in scans[:8]]
    framed = [behind_frame(scan) for scan in bright]
    plain = [distance(bright[i], bright[j]) for i in range(8) for j in range(i)]
    distances = [distance(framed[i], framed[j]) for i in range(8) for j in range(i)]
    assert min(distances) > NEAR_BITS
    assert np.median(distances) > np.median(plain) - 15


def test_a_picture_behind_a_frame_that_is_saved_again_or_moved_a_little_is_a_copy(scans):
    for scan in scans[:4]:
        framed = behind_frame(np.clip(scan.astype(int) + 60, 0, 255).astype(np.uint8))
        assert distance(framed, resave(framed, 70)) <= COPY_BITS


@pytest.mark.skipif(not KVASIR.exists(), reason="the shared Kvasir-SEG images are not here")
def test_different_polyps_behind_one_frame_are_no_near_copies():
    pictures = [np.asarray(Image.open(path).convert("L")) for path in sorted(KVASIR.glob("*.jpg"))[:60]]
    hashes = np.array([perceptual_hash(behind_frame(one, i % 3 - 1)) for i, one in enumerate(pictures)])
    assert len(set(cluster_near_duplicates(hashes, NEAR_BITS))) == len(pictures)


def test_the_first_orientation_is_the_image_as_it_is(scans):
    hashes = orientation_hashes(scans[0])
    assert hashes.shape == (8, PHASH_SIZE**2)
    assert (hashes[0] == orientation_hashes(scans[0], 1)[0]).all()


def test_air_around_a_slice_does_not_matter():
    rows, columns = np.ogrid[:120, :120]
    head = np.hypot((rows - 60) / 1.2, columns - 60) < 40
    coarse = np.kron(derive_rng(0, "head").integers(90, 250, (15, 15)), np.ones((8, 8), int))
    slice_ = np.where(head, coarse, 0).astype(np.uint8)
    padded = np.pad(slice_, ((10, 30), (50, 20)))
    assert (orientation_hashes(slice_, 1) != orientation_hashes(padded, 1)).sum() <= COPY_BITS
    assert (perceptual_hash(slice_) != perceptual_hash(padded)).sum() > NEAR_BITS


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_or_mirrored_image_is_a_copy_in_one_orientation(quarters, mirrored, scans):
    image = scans[1]
    turned = np.rot90(image[:, ::-1] if mirrored else image, quarters)
    own = orientation_hashes(np.ascontiguousarray(turned), 1)
    distances = (orientation_hashes(image) != own).sum(axis=1)
    assert distances.min() <= COPY_BITS
    assert (distances <= COPY_BITS).sum() == 1
