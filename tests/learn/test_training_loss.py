from functools import partial

import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.losses import dice_focal_loss, dice_loss, disentangled_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.training_loss import DICE_FACTOR, DICE_SMOOTH, OtherStyle, training_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 16, 16, generator=generator) * 2 - 1
    return images, (images > 0.5).float()


def make(seed=1):
    return build_model("sdnet", seed=seed, base_channels=2, depth=2)


def renderer(model):
    return {name: array for name, array in to_weights(model).items() if name in model.renderer_entries()}


def test_plain_models_have_the_loss_of_flames(batch):
    model = build_model("unet", seed=1, base_channels=2, depth=2).eval()
    images, masks = batch
    expected = dice_focal_loss(model(images), masks, 0.4, True)
    assert (
        training_loss(model, images, masks, partial(dice_focal_loss, dice_weight=0.4, per_pixel_focal=True))
        == expected
    )


def test_disentangled_models_have_their_own_loss(batch):
    model = make().eval()
    images, masks = batch
    expected = disentangled_loss(model.reconstruct(images), images, masks)
    assert training_loss(model, images, masks) == expected


def test_redrawn_images_add_their_dice(batch):
    model = make().eval()
    images, masks = batch
    style = OtherStyle(model, renderer(make(2)))
    torch.manual_seed(3)
    found = training_loss(model, images, masks, style=style)
    torch.manual_seed(3)
    redrawn = style.draw(model.reconstruct(images).content)
    expected = training_loss(model, images, masks) + DICE_FACTOR * dice_loss(
        model(redrawn), masks, smooth=DICE_SMOOTH
    )
    torch.testing.assert_close(found, expected)


def test_redrawn_images_leave_the_running_statistics_of_real_ones(batch):
    images, masks = batch
    style = renderer(make(2))
    plain, styled = make(), make()
    for model, other in ((plain, None), (styled, OtherStyle(styled, style))):
        torch.manual_seed(3)
        training_loss(model, images, masks, style=other)
    for name, array in to_weights(plain).items():
        if name.endswith(("running_mean", "running_var")):
            assert (to_weights(styled)[name] == array).all(), name


def test_another_renderer_draws_another_image_and_learns_nothing(batch):
    model = make()
    images, masks = batch
    own, other = (OtherStyle(model, renderer(make(seed))) for seed in (1, 2))
    content = model.reconstruct(images).content.detach()
    torch.manual_seed(0)
    one = own.draw(content)
    torch.manual_seed(0)
    assert not torch.equal(one, other.draw(content))
    training_loss(model, images, masks, style=other).backward()
    assert all(parameter.grad is None for parameter in other._renderer.parameters())


def test_the_models_weights_do_not_change_with_another_clients_renderer():
    model = make()
    before = to_weights(model)
    OtherStyle(model, renderer(make(2)))
    assert all((before[name] == array).all() for name, array in to_weights(model).items())


def test_a_plain_model_cannot_take_a_style():
    with pytest.raises(FlamesError, match="cannot draw an image"):
        OtherStyle(build_model("unet", seed=1, base_channels=2, depth=2), {})


def test_another_clients_renderer_must_fit():
    with pytest.raises(FlamesError, match="do not fit the model: missing"):
        OtherStyle(make(), {})
