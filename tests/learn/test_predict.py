from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.core.imaging.components import largest_component
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.scores.metrics import dice
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.predict import MaskRule, predict_probabilities, validate
from tests.support.datasets import draw_discs
from tests.support.masks import predict_masks

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """A model that returns the image as its probability: (x + 1) / 2."""

    def forward(self, x):
        return (x + 1) / 2


@pytest.fixture
def dataset():
    return ShardDataset([draw_discs(3), draw_discs(2, seed=4, organ="ovary")])


@pytest.fixture
def model():
    return build_model("unet", seed=3, base_channels=4, depth=2, dropout=0.5)


def probabilities_of(model, dataset, batch_size=2, order=None):
    found = list(predict_probabilities(model, dataset, batch_size, CPU, "fp32", order))
    return torch.cat([one for one, _ in found]), torch.cat([masks for _, masks in found])


def test_probabilities_are_those_of_the_model_on_normalised_images(dataset):
    found, masks = probabilities_of(Brightness(), dataset)
    for index in range(len(dataset)):
        image, mask = dataset.example(index)
        np.testing.assert_allclose(found[index, 0].numpy(), image, atol=1e-6)
        np.testing.assert_array_equal(masks[index, 0].numpy(), mask)


def test_masks_are_the_pixels_above_one_half(dataset):
    masks = list(predict_masks(Brightness(), dataset))
    assert len(masks) == len(dataset)
    for index, mask in enumerate(masks):
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, dataset.example(index)[0] > 0.5)


def test_exactly_one_half_is_no_tumour():
    class Half(nn.Module):
        def forward(self, x):
            return torch.full_like(x, 0.5)

    (mask,) = predict_masks(Half(), ShardDataset([draw_discs(1)]))
    assert mask.sum() == 0


@pytest.mark.parametrize("threshold", [0.2, 0.7])
def test_masks_are_the_pixels_above_the_threshold(dataset, threshold):
    masks = predict_masks(Brightness(), dataset, rule=MaskRule(threshold))
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, dataset.example(index)[0] > threshold)


def test_only_the_largest_part_of_each_image_stays(dataset):
    plain = list(predict_masks(Brightness(), dataset, rule=MaskRule(0.3)))
    cleaned = list(predict_masks(Brightness(), dataset, rule=MaskRule(0.3, largest_only=True)))
    np.testing.assert_array_equal(cleaned, [largest_component(mask) for mask in plain])
    assert sum(mask.sum() for mask in cleaned) < sum(mask.sum() for mask in plain)


class Slope(nn.Module):
    """A model whose probability depends on the image and on the place: x·(a quarter of the way right and
    down)."""

    def forward(self, x):
        rows, columns = (torch.linspace(0.5, 1, size) for size in x.shape[2:])
        return (x + 1) / 2 * rows[:, None] * columns


def test_flips_are_turned_back_before_their_mean(dataset):
    plain, turned = (
        torch.cat([one for one, _ in predict_probabilities(Slope(), dataset, 2, CPU, "fp32", tta=tta)])
        for tta in ("none", "flips")
    )
    assert (plain - turned).abs().max() > 0.05
    images = torch.stack([torch.from_numpy(dataset.example(index)[0]) for index in range(len(dataset))])
    # The mean of all four directions of a slope from 0.5 to 1 is 0.75 squared everywhere.
    torch.testing.assert_close(turned[:, 0], images * 0.75**2)


def test_flips_change_nothing_for_a_model_without_direction(dataset):
    plain, turned = (
        torch.cat([one for one, _ in predict_probabilities(Brightness(), dataset, 2, CPU, "fp32", tta=tta)])
        for tta in ("none", "flips")
    )
    torch.testing.assert_close(plain, turned)


def test_predictions_follow_the_order_asked_for(dataset):
    every = list(predict_masks(Brightness(), dataset))
    chosen = list(predict_masks(Brightness(), dataset, [4, 0, 4]))
    for found, index in zip(chosen, [4, 0, 4], strict=True):
        np.testing.assert_array_equal(found, every[index])


def test_prediction_uses_neither_dropout_nor_batch_statistics(dataset, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one, other = (probabilities_of(model.train(), dataset)[0] for _ in range(2))
    assert torch.equal(one, other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_predictions_carry_no_gradients(dataset, model):
    assert not probabilities_of(model, dataset)[0].requires_grad


def test_a_caller_that_iterates_predictions_is_not_in_inference_mode(dataset, model):
    for _ in predict_probabilities(model, dataset, 2, CPU, "bf16"):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_does_not_change_a_prediction(batch_size, dataset, model):
    found, _ = probabilities_of(model, dataset, batch_size)
    torch.testing.assert_close(found, probabilities_of(model, dataset, 2)[0])


@pytest.mark.parametrize("per_pixel_focal", [False, True])
def test_validation_is_mean_loss_and_mean_dice_a_case(per_pixel_focal, dataset, model):
    found = validate(
        model,
        dataset,
        2,
        CPU,
        "fp32",
        partial(dice_focal_loss, dice_weight=0.4, per_pixel_focal=per_pixel_focal),
    )
    probabilities, masks = probabilities_of(model, dataset)
    batches = [slice(0, 2), slice(2, 4), slice(4, 5)]
    losses = [
        dice_focal_loss(probabilities[part], masks[part], 0.4, per_pixel_focal).item() for part in batches
    ]
    assert found.loss == pytest.approx((2 * losses[0] + 2 * losses[1] + losses[2]) / 5, rel=1e-6)
    pairs = zip(predict_masks(model, dataset), masks[:, 0].numpy(), strict=True)
    assert found.dice == pytest.approx(
        np.mean([dice(predicted, truth) for predicted, truth in pairs]), rel=1e-9
    )
    assert found.n_cases == 5


def test_validation_scores_an_empty_prediction_of_an_empty_mask_as_one():
    cases = draw_discs(1)
    cases.masks[:] = 0
    cases.images[:] = 0
    assert validate(Brightness(), ShardDataset([cases]), 1, CPU, "fp32", dice_focal_loss).dice == 1


@pytest.mark.parametrize("per_pixel_focal", [False, True])
def test_validation_of_a_model_that_predicts_nan_says_so(per_pixel_focal, dataset):
    class Lost(nn.Module):
        def forward(self, x):
            return x * float("nan")

    found = validate(
        Lost(),
        dataset,
        2,
        CPU,
        "fp32",
        partial(dice_focal_loss, dice_weight=0.0, per_pixel_focal=per_pixel_focal),
    )
    assert np.isnan(found.loss)
    assert found.dice < 0.01


def test_validation_counts_patients_and_scores_small_lesions_apart(model):
    drawn = [draw_discs(4), draw_discs(3, seed=4, dataset="otu2d", organ="ovary")]
    sizes = sorted(case.lesion_px for case in drawn[0].cases)
    ratio = 16 * 16 / sizes[1]
    small = SmallLesionRule("area", ratio, 100.0)
    first = replace(drawn[0], info=replace(drawn[0].info, small=small))
    patients = [replace(case, patient="p") for case in first.cases[:2]] + first.cases[2:]
    first = replace(first, cases=patients)
    nothing = replace(drawn[1], info=replace(drawn[1].info, small=SmallLesionRule("area", 1e6, 100.0)))
    dataset = ShardDataset([first, nothing])
    found = validate(model, dataset, 2, CPU, "fp32", dice_focal_loss)
    judged = [index for index in range(7) if dataset.lesion(index) == "small"]
    predicted = list(predict_masks(model, dataset))
    expected = [dice(predicted[index], dataset.example(index)[1]) for index in judged]
    assert found.n_patients == 3 + 3
    assert found.n_small == len(judged) > 0
    assert found.dice_small == pytest.approx(np.mean(expected))
    assert found.numbers("received_")["received_val_dice_small"] == found.dice_small
    alone = validate(model, ShardDataset([nothing]), 2, CPU, "fp32", dice_focal_loss)
    assert (alone.dice_small, alone.n_small) == (None, 0)
    assert "val_dice_small" not in alone.numbers()
