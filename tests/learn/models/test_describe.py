import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.models.describe import describe_architecture

SMALL = {"base_channels": 4, "depth": 2}


def options_of(name):
    return {} if name == "densenet-unet" else SMALL


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
@pytest.mark.parametrize("name", MODELS)
def test_the_stages_have_all_parameters_of_the_model_once(name, norm):
    table = describe_architecture(name, 64, 3, norm, options_of(name))
    model = build_model(name, seed=0, norm=norm, in_channels=3, **options_of(name))
    assert table.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_table_of_the_paper_s_model_has_its_published_size_and_shapes():
    table = describe_architecture("densenet-unet", 240)
    assert table.parameters == 31_264_705
    shapes = {stage.name: stage.shape for stage in table.stages}
    assert shapes["input"] == (1, 240, 240)
    assert shapes["encoder0"] == (64, 120, 120)
    assert shapes["encoder1"] == (256, 120, 120)
    assert shapes["encoder5"] == (1024, 7, 7)
    assert shapes["decoder4"] == (64, 120, 120)
    assert shapes["output"] == (1, 240, 240)
    assert [stage.name for stage in table.stages][:3] == ["input", "encoder0", "encoder1"]


def test_the_shapes_are_those_of_a_real_forward_pass():
    table = describe_architecture("unet", 37, 1, "batch", SMALL)
    model = build_model("unet", seed=0, **SMALL).eval()
    features = model.encode(torch.zeros(1, 1, 37, 37))
    found = [stage.shape for stage in table.stages if stage.name.startswith("encoders.")]
    assert found == [tuple(feature.shape[1:]) for feature in features]
    assert table.stages[-1].shape == tuple(model(torch.zeros(1, 1, 37, 37)).shape[1:])


def test_layers_are_described_in_words():
    words = {stage.name: stage.layers for stage in describe_architecture("densenet-unet", 64).stages}
    assert words["encoder0"] == "conv 7×7, stride 2"
    assert words["encoder1"] == "dense block, 6 layers"
    assert words["encoder3"] == "2 × (conv 3×3, norm, ReLU), dropout 0.3"
    assert words["upconv1"] == "transposed conv 2×2, stride 2"


def test_the_style_of_a_disentangled_model_is_in_the_table():
    names = [stage.name for stage in describe_architecture("sd-utnet", 64, 1, "batch", SMALL).stages]
    assert {"content.encoders.0", "content.head", "segmentor", "style", "renderer"} <= set(names)


def test_a_large_model_is_described_without_its_memory():
    table = describe_architecture("unet", 64, 1, "batch", {"base_channels": 256, "depth": 4})
    assert table.parameters > 400_000_000


def test_images_below_the_smallest_size_are_an_error():
    with pytest.raises(FlamesError, match="expected at least 31×31"):
        describe_architecture("densenet-unet", 30)
