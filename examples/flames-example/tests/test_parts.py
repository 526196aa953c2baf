"""Tests of each part alone, as a function of arrays."""

import numpy as np
import pytest
import torch
from flames_example.augmentations import speckle
from flames_example.losses import focal_tversky
from flames_example.metrics import boundary_iou
from flames_example.models import DilatedNet
from flames_example.readers import ISIC2018
from flames_example.strategies import FAIR, ClippedSteps, FairBlend
from PIL import Image

from flames_cli import BadCase, Entries, ReadOptions, Report, SkippedCase


def square(low, high, size=40):
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (3, (17, 40))])
def test_the_model_gives_one_logit_for_each_pixel_of_an_image_of_any_size(channels, size):
    assert DilatedNet(channels, channels=8)(torch.rand(2, channels, *size)).shape == (2, 1, *size)


def test_the_model_rejects_a_width_that_it_cannot_normalise():
    with pytest.raises(ValueError, match="multiple of 4"):
        DilatedNet(1, channels=6)


def test_the_loss_is_near_0_for_the_truth_and_punishes_missed_pixels_more():
    masks = torch.zeros(1, 1, 20, 20)
    masks[..., 5:15, 5:15] = 1
    smaller, larger = torch.zeros_like(masks), torch.zeros_like(masks)
    smaller[..., 5:15, 5:12] = 1
    larger[..., 5:15, 5:18] = 1
    assert focal_tversky(masks, masks) < 1e-4
    assert focal_tversky(smaller, masks) > focal_tversky(larger, masks) > 0.1
    perfect = masks.clone().requires_grad_()
    focal_tversky(perfect, masks).backward()
    assert torch.isfinite(perfect.grad).all()


def test_the_metric_is_1_for_equal_contours_0_for_far_ones_and_none_without_any():
    mm = (1.0, 1.0)
    assert boundary_iou(square(5, 30), square(5, 30), mm) == 1
    assert boundary_iou(square(2, 38), square(12, 28), mm) == 0
    assert 0 < boundary_iou(square(5, 30), square(5, 31), mm) < 1
    assert boundary_iou(square(0, 0), square(0, 0), mm) is None
    volume = np.stack([square(5, 30), square(0, 0)])
    assert boundary_iou(volume, volume, (1.0, *mm)) == 1


def test_the_augmentation_repeats_by_its_generator_and_stays_in_range():
    image = np.linspace(0, 1, 2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16)
    first, again = (speckle(image, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, image)
    assert (first.dtype, first.shape, first.min() >= 0, first.max() <= 1) == (
        np.float32,
        image.shape,
        True,
        True,
    )


def test_clients_with_a_larger_loss_count_more_in_the_blend():
    start = {"w": np.zeros(2, np.float32), "n": np.array(0)}
    blend = FairBlend(start, Entries.of(start), "examples")
    for value, loss in ((0.0, 0.1), (4.0, 0.3)):
        weights = {"w": np.full(2, value, np.float32), "n": np.array(7)}
        blend.add(Report("a", "US", weights, n_examples=10, metrics={"train_loss": loss}))
    made = blend.server()
    assert np.allclose(made["w"], 3.0)
    assert (made["w"].dtype, made["n"], made["n"].dtype) == (np.float32, 7, start["n"].dtype)
    assert "expected above 0" in blend.rejection_reason(Report("a", "US", start, 10))
    assert FAIR.model_group_of("a", "US") == "US"


def test_a_step_is_clipped_to_its_largest_norm():
    model = torch.nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()
    rule = ClippedSteps(model, torch.optim.SGD(model.parameters(), lr=1.0))
    (100 * model.weight.sum()).backward()
    rule.step()
    assert torch.allclose(before - model.weight, torch.ones(1, 1), atol=1e-4)


@pytest.fixture
def isic(tmp_path):
    """ISIC folders with a lesion, an image without a mask, one without a lesion, and one of another size."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name, mask in {"a": square(5, 30), "c": square(0, 0), "d": square(1, 5, 20)}.items():
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}_segmentation.png")
    for name in "abcd":
        Image.new("RGB", (40, 40), "brown").save(tmp_path / "images" / f"{name}.jpg")
    return {source.patient: source for source in ISIC2018.list_sources(tmp_path)}


def test_the_reader_returns_images_in_grey_or_colour_with_their_masks(isic):
    assert list(isic) == ["a", "b", "c", "d"]
    for colour, shape in ((False, (40, 40)), (True, (40, 40, 3))):
        (case,) = ISIC2018.read_source(isic["a"], ReadOptions(colour=colour))
        assert (case.image.shape, case.image.dtype) == (shape, np.uint8)
        assert np.array_equal(case.mask, square(5, 30))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [("b", BadCase, "no mask"), ("c", SkippedCase, "empty"), ("d", BadCase, "pixels")],
)
def test_the_reader_names_what_is_wrong_with_a_source(name, error, words, isic):
    with pytest.raises(error, match=words):
        ISIC2018.read_source(isic[name], ReadOptions())
