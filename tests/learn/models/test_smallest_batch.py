import pytest
import torch

from flames_cli.learn.models import build_model
from flames_cli.learn.models.smallest_batch import smallest_batch


@pytest.mark.parametrize(
    ("norm", "size", "expected"),
    [("batch", 4, 2), ("batch", 7, 2), ("batch", 8, 1), ("batch", 64, 1), ("group", 4, 1), ("frozen", 4, 1)],
)
def test_batchnorm_needs_two_images_where_the_deepest_level_has_one_pixel(norm, size, expected):
    model = build_model("unet", seed=0, norm=norm, base_channels=2, depth=2)
    before = torch.get_rng_state()
    assert smallest_batch(model, size) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert next(model.parameters()).device.type == "cpu"
    images = torch.zeros(1, 1, size, size)
    if expected == 2:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model.train()(images)
    else:
        model.train()(images)
