import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.devices import autocast
from flames_cli.learn.losses import dice_focal_loss, disentangled_loss
from flames_cli.learn.models import MODELS, build_model, options_for
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.disentangled import DisentangledModel

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
DISENTANGLED = ("sd-utnet", "sdnet")
PLAIN = sorted(MODELS.keys() - set(DISENTANGLED))
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is not here")


def golden_order() -> list[tuple[str, list[int], str]]:
    return [tuple(entry) for entry in json.loads((GOLDEN / "flames_unet.json").read_text())["order"]]


def golden_array(index: int, name: str, shape: list[int], dtype: str, k0: float) -> np.ndarray:
    """The formula in the golden file's `fill`."""
    if dtype == "torch.int64":
        return np.zeros(shape, np.int64)
    count = int(np.prod(shape))
    x = np.cos(np.arange(count) * (k0 + 0.001 * index) + index).reshape(shape)
    if len(shape) >= 2:
        x = x * np.sqrt(2 / (count / shape[0]))
    elif name.endswith("running_var"):
        x = 1 + 0.5 * x
    else:
        x = 1 + 0.1 * x if name.endswith("weight") else 0.1 * x
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def densenet_unet():
    return build_model("densenet-unet", seed=0)


@needs_golden
def test_densenet_unet_has_the_authors_entries_in_order(densenet_unet):
    state = densenet_unet.state_dict()
    found = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()]
    assert found == golden_order()
    assert sum(p.numel() for p in densenet_unet.parameters()) == 31_264_705


@needs_golden
def test_densenet_unet_gives_the_authors_output():
    model = build_model("densenet-unet").eval()
    with np.load(GOLDEN / "flames_unet.npz") as golden:
        k0, expected = float(golden["k0"]), golden["output_every_4th"]
    filled = {entry[0]: golden_array(i, *entry, k0) for i, entry in enumerate(golden_order())}
    load_weights(model, filled)
    image = torch.from_numpy(np.sin(np.arange(57600) * 0.37).astype(np.float32).reshape(1, 1, 240, 240))
    with torch.inference_mode():
        output = model(image)
    np.testing.assert_allclose(output[0, 0, ::4, ::4].numpy(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(31, 31), (33, 62), (64, 48)])
def test_densenet_unet_takes_any_size_from_its_smallest(densenet_unet, size):
    check_output(densenet_unet.eval(), size, channels=1024)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (96, 40)])
def test_unet_takes_any_size_from_its_smallest(size):
    check_output(build_model("unet", seed=0, base_channels=4).eval(), size, channels=64)


def check_output(model, size, channels):
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output, deepest = model(images), model.bottleneck(images)
    assert output.shape == images.shape
    assert output.dtype == deepest.dtype == torch.float32
    assert 0 <= output.min() <= output.max() <= 1
    assert deepest.shape[:2] == (2, channels)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_images_below_the_smallest_size_are_rejected(name):
    model = build_model(name)
    wide, small = model.min_size + 9, model.min_size - 1
    with pytest.raises(
        FlamesError, match=rf"{wide}×{small} pixels.*at least {model.min_size}×{model.min_size}"
    ):
        model(torch.zeros(1, 1, wide, small))
    with pytest.raises(FlamesError, match="at least"):
        model.bottleneck(torch.zeros(1, 1, small, wide))


def test_images_of_other_channels_are_rejected_by_shape():
    with pytest.raises(FlamesError, match=r"\(1, 3, 32, 32\).*B×1×H×W"):
        build_model("unet")(torch.zeros(1, 3, 32, 32))


def test_unet_options_set_its_shape():
    model = build_model("unet", in_channels=3, base_channels=8, depth=2, dropout=0.5)
    assert model.min_size == 4
    assert model(torch.rand(2, 3, 9, 12)).shape == (2, 1, 9, 12)
    assert model.bottleneck(torch.rand(2, 3, 9, 12)).shape == (2, 32, 2, 3)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_model_has_no_style(name):
    model = build_model(name)
    assert model.style_entries() == model.renderer_entries() == frozenset()


@pytest.mark.parametrize("name", PLAIN)
def test_colour_changes_the_shape_of_the_first_convolution_alone(name):
    grey, colour = (build_model(name, seed=0, in_channels=channels).state_dict() for channels in (1, 3))
    assert list(grey) == list(colour)
    (first,) = [entry for entry in grey if grey[entry].shape != colour[entry].shape]
    assert first == next(iter(grey))
    assert (grey[first].shape[1], colour[first].shape[1]) == (1, 3)


def test_a_model_has_as_many_channels_as_its_images():
    given = {"depth": 2}
    assert options_for(3, given) == {"depth": 2, "in_channels": 3}
    assert given == {"depth": 2}
    assert options_for(1, {"in_channels": 1}) == {"in_channels": 1}
    with pytest.raises(FlamesError, match="in_channels = 1, but the images have 3; leave it out"):
        options_for(3, {"in_channels": 1})


def test_densenet_unet_takes_more_input_channels():
    with torch.inference_mode():
        assert build_model("densenet-unet", in_channels=4).eval()(torch.rand(1, 4, 32, 32)).shape == (
            1,
            1,
            32,
            32,
        )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet",
            {},
            "model 'resnet' is not known.*one of densenet-unet, unet, utnet, sd-utnet, sdnet; a plug-in may",
        ),
        ("unet", {"width": 3}, "unknown option 'width' of model unet.*base_channels, depth, dropout"),
        ("densenet-unet", {"depth": 3}, "unknown option 'depth' of model densenet-unet.*in_channels"),
        ("unet", {"depth": "4"}, "option depth = '4'.*expected int"),
        ("unet", {"depth": 0}, "depth = 0.*1 or more"),
        ("unet", {"dropout": 1.0}, "dropout = 1.0.*0 <= dropout < 1"),
        ("densenet-unet", {"in_channels": 0}, "in_channels = 0 of model densenet-unet.*1 or more"),
        ("utnet", {"dropout": 0.1}, "unknown option 'dropout' of model utnet.*depth, heads$"),
        ("utnet", {"heads": 2.0}, "option heads = 2.0 of model utnet: expected int"),
        ("utnet", {"heads": 0}, "heads = 0 of model utnet: expected 1 or more"),
        ("utnet", {"heads": 3}, "heads = 3 of model utnet: expected a divisor of 2 · base_channels = 64"),
        ("utnet", {"base_channels": 1000}, "base_channels = 1000 and depth = 4 of model utnet.*at most 4096"),
        ("sd-utnet", {"depth": 0}, "depth = 0 of model sd-utnet"),
        ("sd-utnet", {"heads": 5}, "heads = 5 of model sd-utnet: expected a divisor"),
        ("sd-utnet", {"style_dims": 0}, "style_dims = 0 of model sd-utnet"),
        ("sdnet", {"heads": 4}, "unknown option 'heads' of model sdnet.*content_channels, style_dims$"),
        ("sdnet", {"out_channels": 2}, "unknown option 'out_channels' of model sdnet"),
        ("sdnet", {"depth": 40}, "depth = 40 of model sdnet: expected a depth of at most 10"),
        (
            "sdnet",
            {"content_channels": 4096},
            "content_channels = 4096 of model sdnet: expected at most 1024",
        ),
    ],
)
def test_the_error_of_a_wrong_name_or_option_lists_the_known_ones(name, options, message):
    with pytest.raises(FlamesError, match=message):
        build_model(name, **options)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_seed_fixes_the_weights_and_leaves_the_global_generator(name):
    before = torch.random.get_rng_state()
    first, again = (build_model(name, seed=3).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_other_seeds_give_other_weights():
    first, other = (build_model("unet", seed=seed).head.weight for seed in (1, 2))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", PLAIN)
def test_every_parameter_gets_a_finite_gradient(name):
    model = build_model(name, seed=0)
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    dice_focal_loss(model(images), (images > 0.8).float()).backward()
    missing = [
        key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert missing == []


@pytest.mark.parametrize("name", ["unet", "utnet"])
def test_a_small_model_learns_one_bright_square(name):
    model = build_model(name, seed=0, base_channels=4, depth=1)
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 4:9, 5:11] = 1
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = dice_focal_loss(model(mask - 0.5), mask)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["unet", "utnet"])
def test_bf16_output_is_float32_and_close_to_fp32(name):
    model = build_model(name, seed=0, base_channels=4, depth=2).eval()
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = model(images)
        with autocast(torch.device("cpu"), "bf16"):
            half, deepest = model(images), model.bottleneck(images)
    assert half.dtype == deepest.dtype == torch.float32
    assert not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, atol=2e-2, rtol=0)


def test_torchvision_is_imported_for_densenet_unet_only():
    code = (
        "import sys; from flames_cli.learn.models import build_model; build_model('unet'); "
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", sorted(MODELS))
def test_cuda_agrees_with_the_cpu_and_trains_in_bf16(name):
    model = build_model(name, seed=0).eval()
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(images)
    model = model.cuda()  # out here: buffers that were moved in inference mode could not be trained
    with torch.inference_mode():
        found = model(images.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=0)
    masks, model = (images > 0.8).cuda(), model.train()
    with autocast(torch.device("cuda"), "bf16"):
        if isinstance(model, DisentangledModel):
            loss = disentangled_loss(model.reconstruct(images.cuda()), images.cuda(), masks)
        else:
            loss = dice_focal_loss(model(images.cuda()), masks)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("options", [{"depth": 40}, {"base_channels": 1000, "depth": 4}])
def test_a_unet_too_large_to_build_is_rejected(options):
    with pytest.raises(FlamesError, match=r"expected a depth of at most 10 and base_channels"):
        build_model("unet", **options)


def test_the_names_of_the_models_are_known_without_torch():
    """A wrong name is rejected before any heavy import."""
    code = """
import sys
from flames_cli.errors import FlamesError
from flames_cli.learn.models import MODELS, model_class
assert "unet" in MODELS
try:
    model_class("unte")
except FlamesError as error:
    print(error)
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert result.stdout.startswith(
        "model 'unte' is not known (did you mean unet?); choose one of densenet-unet, "
    )
