import io

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.imaging.near_duplicates import NEAR_BITS, PHASH_SIZE
from flames_cli.readers.busi import BUSI
from flames_cli.readers.formats.fingerprints import content_hash, perceptual_hash
from tests.support.raw_cases import iter_raw_cases


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


@pytest.mark.parametrize("index", range(6))
def test_saving_again_and_brightening_keep_an_image_near(index, scans):
    image = scans[index]
    brighter = np.clip(image.astype(int) * 1.05 + 10, 0, 255).astype(np.uint8)
    assert distance(image, resave(image, 60)) <= NEAR_BITS
    assert distance(image, resave(brighter, 80)) <= NEAR_BITS


def test_other_patients_are_far(scans):
    distances = [distance(scans[i], scans[j]) for i in range(8) for j in range(i)]
    assert min(distances) > NEAR_BITS
