import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flames_cli.core.imaging.geometry import map_from_square, to_square
from flames_cli.learn.formats.any_size import UNROUNDED, AnySize, any_size_axes
from flames_cli.learn.formats.programs import trace

SIZE = 16


class Unchanged(nn.Module):
    """A program that gives its image, so that only the geometry is tested."""

    def forward(self, image):
        return image.mean(dim=1, keepdim=True)


def any_size(levels=UNROUNDED):
    program = AnySize(Unchanged(), SIZE).eval()
    program.levels.fill_(levels)
    return program


def by_flames(image, size=SIZE):
    square, _ = to_square(image, np.zeros(image.shape[:2], np.uint8), size)
    square = square.clip(0, 1)
    return map_from_square(square if square.ndim == 2 else square.mean(axis=2), *image.shape[:2])


def random(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(2, 70), width=st.integers(2, 70), seed=st.integers(0, 9))
def test_an_image_of_any_size_is_prepared_and_brought_back_as_flames_does(height, width, seed):
    image = random((height, width), seed)
    found = any_size()(torch.from_numpy(image)[None, None])
    np.testing.assert_allclose(found[0, 0].numpy(), by_flames(image), atol=1e-5)


def test_colours_are_resampled_like_grey():
    image = random((23, 40, 3))
    found = any_size()(torch.from_numpy(np.moveaxis(image, 2, 0).copy())[None])
    np.testing.assert_allclose(found[0, 0].numpy(), by_flames(image), atol=1e-5)


def test_an_image_of_the_model_s_size_is_not_changed():
    image = torch.from_numpy(random((2, 1, SIZE, SIZE)))
    torch.testing.assert_close(any_size()(image), image, atol=1e-6, rtol=0)


def test_one_trace_takes_other_sizes_and_batches():
    traced = trace(any_size(), torch.zeros(2, 1, 21, 30), any_size_axes())
    archive = io.BytesIO()
    torch.export.save(traced, archive)
    archive.seek(0)
    module = torch.export.load(archive).module()
    for n, height, width in ((1, 30, 21), (3, 16, 16), (2, 9, 50), (1, 64, 63)):
        images = random((n, 1, height, width))
        found = module(torch.from_numpy(images)).numpy()
        for image, one in zip(images, found, strict=True):
            np.testing.assert_allclose(one[0], by_flames(image[0]), atol=1e-5)


def test_an_image_that_is_too_large_is_an_error():
    traced = trace(any_size(), torch.zeros(2, 1, 21, 30), any_size_axes())
    with pytest.raises((RuntimeError, AssertionError)):
        traced.module()(torch.zeros(1, 1, 2, 9000))


def test_a_still_image_of_8_bits_is_rounded_as_flames_stores_it():
    pixels = np.random.default_rng(3).integers(0, 256, (37, 52), np.uint8)
    square, _ = to_square(pixels, np.zeros(pixels.shape, np.uint8), SIZE)
    expected = map_from_square(square.astype(np.float32) / 255, 37, 52)
    image = torch.from_numpy(pixels)[None, None] / 255
    np.testing.assert_allclose(any_size(255)(image)[0, 0].numpy(), expected, atol=1e-5)
    assert abs(any_size()(image)[0, 0].numpy() - expected).max() > 1e-3
