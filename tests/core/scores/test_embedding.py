import subprocess
import sys

import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.core.scores.embedding import embed, separation, thumbnail_features


def two_clouds(n=30, dimensions=20):
    features = derive_rng(0, "clouds").normal(size=(n, dimensions)).astype(np.float32)
    features[: n // 2] += 6
    return features, ["MRI"] * (n // 2) + ["US"] * (n - n // 2)


def test_embedding_keeps_clouds_apart():
    features, labels = two_clouds()
    places = embed(features, seed=0)
    assert places.shape == (30, 2)
    assert np.isfinite(places).all()
    assert separation(places, labels) > 0.5


def test_same_seed_gives_the_same_map():
    features, _ = two_clouds()
    np.testing.assert_array_equal(embed(features, seed=3), embed(features, seed=3))


def test_embedding_leaves_its_features_alone():
    features, _ = two_clouds()
    before = features.copy()
    embed(features, seed=0)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("shape", [(5, 2), (5, 100), (6, 3)])
def test_few_cases_or_features_still_embed(shape):
    places = embed(derive_rng(0, "few").normal(size=shape), seed=0)
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()


@pytest.mark.parametrize("shape", [(4, 10), (10, 1), (10,)])
def test_too_few_cases_or_features_are_rejected(shape):
    with pytest.raises(ValueError, match="N >= 5 cases"):
        embed(np.ones(shape), seed=0)


def test_features_that_are_not_finite_are_rejected():
    features, _ = two_clouds()
    features[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        embed(features, seed=0)


def test_cases_that_are_all_equal_are_rejected():
    with pytest.raises(ValueError, match="all alike"):
        embed(np.ones((8, 4)), seed=0)


def test_separation_by_hand():
    # Each case is 1 from its own and 10 or 11 from the others.
    features = np.array([[0.0], [1.0], [10.0], [11.0]])
    by_hand = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5, 1 - 1 / 9.5, 1 - 1 / 10.5])
    assert separation(features, ["a", "a", "b", "b"]) == pytest.approx(by_hand)


@pytest.mark.parametrize("labels", [["a"] * 4, ["a", "a", "a", "b"], ["a", "b", "c", "d"]])
def test_separation_is_none_where_it_means_nothing(labels):
    assert separation(np.arange(8.0).reshape(4, 2), labels) is None


def test_separation_needs_one_label_a_case():
    with pytest.raises(ValueError, match="4 cases and 2 labels"):
        separation(np.zeros((4, 2)), ["a", "b"])


def test_thumbnails_average_areas():
    image = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0.5], [1, 1, 0.5, 0]], dtype=np.float32)
    np.testing.assert_allclose(thumbnail_features(image[None], side=2), [[0.5, 0, 1, 0.25]])


def test_images_below_the_side_are_not_resized():
    images = derive_rng(0, "thumbnails").random((3, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(thumbnail_features(images, side=32), images.reshape(3, 64))


def test_thumbnails_take_a_generator():
    images = derive_rng(0, "thumbnails").random((3, 240, 240), dtype=np.float32)
    features = thumbnail_features(image for image in images)
    assert features.shape == (3, 1024)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, thumbnail_features(images))


def test_thumbnails_of_other_shapes_are_rejected():
    with pytest.raises(ValueError, match="2 shapes"):
        thumbnail_features([np.zeros((8, 8)), np.zeros((8, 4))])


def test_no_image_is_rejected():
    with pytest.raises(ValueError, match="0 shapes"):
        thumbnail_features([])


def test_thumbnails_of_colour_images_keep_the_colours_of_a_pixel_side_by_side():
    images = derive_rng(0, "thumbnails").random((2, 64, 64, 3), dtype=np.float32)
    found = thumbnail_features(images).reshape(2, -1, 3)
    for channel in range(3):
        grey = thumbnail_features(images[..., channel])
        np.testing.assert_allclose(found[..., channel], grey, rtol=1e-6)


@pytest.mark.parametrize("shape", [(8,), (0, 8), (8, 8, 1), (8, 8, 4), (2, 8, 8, 3)])
def test_images_neither_grey_nor_colour_are_rejected(shape):
    with pytest.raises(ValueError, match=r"expected H×W or H×W×3"):
        thumbnail_features([np.zeros(shape)])


def test_import_does_not_load_sklearn():
    code = "import sys, flames_cli.core.scores.embedding; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
