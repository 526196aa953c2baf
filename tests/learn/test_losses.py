from pathlib import Path

import numpy as np
import pytest
import torch

from flames_cli.learn.losses import dice_focal_loss, dice_loss, disentangled_loss, focal_loss, kl_loss
from flames_cli.learn.models.disentangled import Reconstruction

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "flames_loss.npz"


def batch(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.rand(shape, generator=generator)
    return pred, (torch.rand(shape, generator=generator) > 0.7).to(torch.uint8)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden is not here")
@pytest.mark.parametrize("case", range(4))
def test_losses_equal_those_of_the_authors(case):
    with np.load(GOLDEN) as golden:
        pred, target = (torch.from_numpy(golden[f"{case}_{name}"]) for name in ("pred", "target"))
        found = {
            "dice": dice_loss(pred, target),
            "focal": focal_loss(pred, target),
            "dice_focal_a0.3": dice_focal_loss(pred, target),
            "dice_focal_a0.7": dice_focal_loss(pred, target, dice_weight=0.7),
        }
        for name, value in found.items():
            assert value.item() == pytest.approx(golden[f"{case}_{name}"].item(), abs=1e-5), name


def test_dice_of_two_pixels_by_hand():
    pred, target = torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([[[[0, 1]]]])
    assert dice_loss(pred, target).item() == pytest.approx(1 - 3 / 3.5)


def test_dice_of_two_empty_masks_is_zero():
    empty = torch.zeros(2, 1, 4, 4)
    assert dice_loss(empty, empty).item() == 0


def test_focal_per_pixel_of_two_pixels_by_hand():
    pred, target = torch.tensor([[[[0.8, 0.4]]]]), torch.tensor([[[[1, 1]]]])
    expected = 0.8 * (0.2**2 * -np.log(0.8) + 0.6**2 * -np.log(0.4)) / 2
    assert focal_loss(pred, target, per_pixel=True).item() == pytest.approx(expected, rel=1e-5)


def test_focal_forms_agree_on_a_single_pixel_and_differ_on_many():
    one, many = batch(1, 1, 1, 1), batch(2, 1, 8, 8)
    assert focal_loss(*one).item() == pytest.approx(focal_loss(*one, per_pixel=True).item())
    assert focal_loss(*many).item() != pytest.approx(focal_loss(*many, per_pixel=True).item(), rel=1e-3)


def test_dice_focal_uses_the_requested_focal_form():
    pred, target = batch(2, 1, 8, 8)
    expected = 0.3 * dice_loss(pred, target) + 0.7 * focal_loss(pred, target, per_pixel=True)
    torch.testing.assert_close(dice_focal_loss(pred, target, per_pixel_focal=True), expected)


@pytest.mark.parametrize("per_pixel", [False, True])
def test_gradients_are_finite_on_certain_and_wrong_predictions(per_pixel):
    logits = torch.tensor([200.0, -200.0, 0.0, 200.0]).reshape(1, 1, 2, 2).requires_grad_()
    target = torch.tensor([0, 1, 1, 1]).reshape(1, 1, 2, 2)
    dice_focal_loss(logits.sigmoid(), target, per_pixel_focal=per_pixel).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_step_down_the_gradient_lowers_the_loss():
    pred, target = batch(2, 1, 8, 8)
    pred = (pred * 0.8 + 0.1).requires_grad_()
    before = dice_focal_loss(pred, target)
    (slope,) = torch.autograd.grad(before, pred)
    assert dice_focal_loss(pred.detach() - 0.05 * slope / slope.abs().max(), target) < before


def test_gradients_match_finite_differences():
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    pred = torch.tensor([0.7, 0.4, 0.2, 0.1]).reshape(1, 1, 2, 2).requires_grad_()
    (slope,) = torch.autograd.grad(dice_focal_loss(pred, target), pred)
    for index in range(4):
        shift = torch.zeros(4).index_fill(0, torch.tensor(index), 1e-2).reshape(1, 1, 2, 2)
        rise = dice_focal_loss(pred + shift, target) - dice_focal_loss(pred - shift, target)
        assert rise.item() / 2e-2 == pytest.approx(slope.flatten()[index].item(), rel=2e-2)


def test_losses_stay_in_float32_under_autocast():
    pred, target = batch(4, 1, 96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dice_focal_loss(pred, target)
    assert inside.dtype == torch.float32
    assert inside == dice_focal_loss(pred, target)


def test_half_precision_predictions_are_summed_in_float32():
    pred, target = batch(4, 1, 96, 96)
    half = pred.to(torch.bfloat16)
    assert dice_focal_loss(half, target) == dice_focal_loss(half.float(), target)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, dice_focal_loss])
def test_a_shape_mismatch_names_both_shapes(loss):
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\).*\(2, 4, 4\)"):
        loss(torch.rand(2, 1, 4, 4), torch.zeros(2, 4, 4))


def test_kl_equals_its_formula():
    generator = torch.Generator().manual_seed(0)
    mean, log_var = (torch.randn(5, 8, generator=generator) for _ in range(2))
    m, v = mean.numpy(), log_var.numpy()
    expected = (0.5 * (np.exp(v) + m**2 - 1 - v)).sum(axis=1).mean()
    assert kl_loss(mean, log_var).item() == pytest.approx(expected, rel=1e-5)


def test_kl_agrees_with_torchs_distributions():
    mean, log_var = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.7]])
    normal = torch.distributions.Normal(mean, (log_var / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(kl_loss(mean, log_var), expected)


def test_kl_of_the_standard_normal_is_zero():
    assert kl_loss(torch.zeros(3, 4), torch.zeros(3, 4)).item() == 0


def reconstruction(seed: int = 0) -> tuple[Reconstruction, torch.Tensor, torch.Tensor]:
    pred, masks = batch(2, 1, 6, 5, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    mean, log_var, z, z_again = (torch.randn(2, 8, generator=generator) for _ in range(4))
    content, rebuilt, images = (torch.rand(2, c, 6, 5, generator=generator) * 2 - 1 for c in (8, 3, 3))
    return Reconstruction(pred, content, mean, log_var, z, rebuilt, z_again), images, masks


def test_the_disentangled_loss_equals_its_formula():
    made, images, masks = reconstruction()
    p, t = made.probabilities.numpy(), masks.numpy().astype(np.float32)
    dice = 1 - (2 * (p * t).sum() + 0.1) / (p.sum() + t.sum() + 0.1)
    m, v = made.mean.numpy(), made.log_var.numpy()
    kl = (0.5 * (np.exp(v) + m**2 - 1 - v)).sum(axis=1).mean()
    style = np.abs(made.z_again.numpy() - made.z.numpy()).mean()
    image = np.abs(made.rebuilt.numpy() - images.numpy()).mean()
    expected = 10 * dice + 0.01 * kl + style + image
    assert disentangled_loss(made, images, masks).item() == pytest.approx(expected, rel=1e-5)


def test_the_disentangled_loss_stays_in_float32_under_autocast():
    made, images, masks = reconstruction()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = disentangled_loss(made, images, masks)
    assert inside.dtype == torch.float32
    assert inside == disentangled_loss(made, images, masks)


def test_the_disentangled_loss_rejects_images_of_another_shape():
    made, images, masks = reconstruction()
    with pytest.raises(ValueError, match=r"\(2, 3, 6, 5\).*\(2, 1, 6, 5\)"):
        disentangled_loss(made, images[:, :1], masks)
