"""Images of the demo that no stage has seen, with their masks."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.demo_data import draw_new_images
from flames_cli.demo_data.layouts import draw_busi


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("new")
    return draw_new_images(root / "images", root / "masks", 3), root / "masks"


def test_a_volume_and_its_mask_have_one_geometry(drawn):
    images, masks = drawn
    image, mask = nib.load(images[0]), nib.load(masks / "brain.nii.gz")
    assert image.shape == mask.shape == (96, 96, 16)
    assert np.array_equal(image.affine, mask.affine)
    labels = np.asarray(mask.dataobj)
    assert set(np.unique(labels)) == {0, 1}
    inside = np.asarray(image.dataobj)[labels == 1].mean()
    assert inside > np.asarray(image.dataobj)[labels == 0].mean()


def test_stills_have_masks_of_their_own_size(drawn):
    images, masks = drawn
    assert [path.name for path in images[1:]] == ["breast.png", "ovary.jpg"]
    for path in images[1:]:
        mask = np.asarray(Image.open(masks / f"{path.stem}.png"))
        assert mask.shape == np.asarray(Image.open(path)).shape
        assert set(np.unique(mask)) == {0, 255}
        assert 0.01 < (mask > 0).mean() < 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(drawn, tmp_path):
    images, _ = drawn
    again = draw_new_images(tmp_path / "images", tmp_path / "masks", 3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in images]
    other = draw_new_images(tmp_path / "images", tmp_path / "masks", 4)
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(other, images, strict=True))


def test_a_new_image_is_not_one_of_the_data_set(drawn, tmp_path):
    images, _ = drawn
    new = np.asarray(Image.open(images[1]))
    for path in draw_busi(tmp_path, 6, 3).glob("*/*).png"):
        assert not np.array_equal(np.asarray(Image.open(path).convert("L")), new)
