import random

import pytest
import torch
from torch import nn

from flames_cli.errors import FlamesError
from flames_cli.learn.models import (
    MODELS,
    build_model,
    check_options,
    options_for,
    plugin_of,
    training_defaults,
)
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.describe import describe_architecture
from flames_cli.learn.models.logits_model import LogitsModel
from flames_cli.learn.models.plugin_models import PluginModel, find_callable_fault
from flames_cli.learn.models.probing import probe_model
from flames_cli.learn.models.unet import UNet
from flames_cli.learn.models.weights import read_complete
from flames_cli.plugins import Origin, use_files
from tests.support.plugins import make_site

__all__ = ["make_site"]

ORIGIN = Origin("models", "x", "some", "1.0", "some:x")
WHO = "model 'x' of the plug-in some 1.0"


class Net(nn.Module):
    def __init__(self, in_channels=1, function=lambda x: x, width=3):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, 1, 1)
        self.function = function

    def forward(self, x):
        return self.function(self.last(self.norm(self.first(x)).relu()))


def built(make, **options):
    return PluginModel(make, ORIGIN)(in_channels=1, **options)


def probe(net, size=16, **options):
    model = built(lambda in_channels: net, **options) if isinstance(net, nn.Module) else built(net)
    probe_model(model, WHO, size, 1)


class Counter(Net):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Shared(Net):
    def __init__(self):
        super().__init__()
        self.again = self.first


class Extra(Net):
    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        pass


class Lazy(Net):
    def __init__(self):
        super().__init__()
        self.late = nn.LazyConv2d(3, 1)


class Volumes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3)


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Halving(Net):
    """A U-Net in the usual form: sides that are no multiple of 4 do not fit its skip."""

    def forward(self, x):
        y = self.last(self.first(x))
        down = nn.functional.avg_pool2d(y, 4)
        return y + nn.functional.interpolate(down, scale_factor=4)


class Viewing(Net):
    def forward(self, x):
        y = self.first(x)
        return self.last(y.view(len(y), -1).view(y.shape))


class Unlearned(UNet):
    def __init__(self, in_channels=1):
        nn.Module.__init__(self)
        self.layer = nn.Conv2d(in_channels, 1, 1)


BUILDING = {
    "no module": (lambda in_channels: "net", "gives str, expected a torch.nn.Module"),
    "an error": (lambda in_channels: 1 / 0, r"cannot be built with in_channels = 1 \(ZeroDivisionError"),
    "doubles": (lambda in_channels: Net().double(), "has an entry first.weight of torch.float64, expected"),
    "half": (lambda in_channels: Net().half(), "first.weight of torch.float16"),
    "shared": (lambda in_channels: Shared(), "shares one tensor between its entries first.weight and again"),
    "other state": (lambda in_channels: Extra(), "has an entry _extra_state that is dict, expected tensors"),
    "lazy": (lambda in_channels: Lazy(), "has an entry without a shape"),
    "volumes": (lambda in_channels: Volumes(), r"is a network for volumes \(it has Conv3d\).*spatial_dims=2"),
    "frozen": (lambda in_channels: Frozen(), "has no parameter that is trained"),
    "no init": (Unlearned, "does not call SegmentationModel's __init__"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("fault", BUILDING)
def test_a_network_that_cannot_be_used_is_named_in_one_line(fault):
    make, message = BUILDING[fault]
    with pytest.raises(FlamesError, match=message) as error:
        built(make)
    assert str(error.value).startswith(WHO)
    assert "\n" not in str(error.value)


PROBING = {
    "an error": (Net(function=lambda x: x.nope), "fails on images of shape 2×1×16×16 .*AttributeError"),
    "NaN": (Net(function=lambda x: x * torch.nan), "gives values from nan to nan for random images"),
    "a tuple": (Net(function=lambda x: (x, x)), "returns tuple, expected one tensor"),
    "two channels": (Net(function=lambda x: x.repeat(1, 2, 1, 1)), "maps images .* to 2×2×16×16, expected"),
    "no gradient": (Net(function=torch.Tensor.detach), "probabilities without a gradient"),
    "its own randomness": (Net(function=lambda x: x * random.random()), "other probabilities in another"),
    "the batch": (Net(function=lambda x: x * len(x) * 9), "other probabilities in another batch"),
    "a steep slope": (
        Net(function=lambda x: x + (x - x.detach()).abs().sqrt()),
        "has a gradient that is not finite",
    ),
    "channels last": (Viewing(width=4), "it works without channels-last memory: set channels_last = False"),
}


@pytest.mark.parametrize("fault", PROBING)
def test_a_model_that_gives_no_probabilities_is_named_before_a_run(fault):
    net, message = PROBING[fault]
    with pytest.raises(FlamesError, match=message) as error:
        probe(net)
    assert str(error.value).startswith(WHO)
    assert "\n" not in str(error.value)


def test_randomness_of_training_must_be_torchs():
    probe(Net(function=lambda x: nn.functional.dropout(x, 0.5, training=x.requires_grad)))
    drawing = Net(function=lambda x: x * random.random() if x.requires_grad else x)
    with pytest.raises(FlamesError, match="two different results for the same images and the same seed"):
        probe(drawing)
    with pytest.raises(FlamesError, match="another batch or at another call"):
        probe(Counter())


@pytest.mark.parametrize(("size", "advice"), [(14, "16×16 pixels: preprocess with --size 16"), (16, "")])
def test_a_size_that_does_not_fit_comes_with_one_that_does(size, advice):
    if not advice:
        probe(Halving(), size)
        return
    with pytest.raises(FlamesError, match=f"fails on images of shape 2×1×14×14 .*it works with {advice}"):
        probe(Halving(), size)


def test_a_probe_changes_neither_the_model_nor_torchs_generator():
    model = built(lambda in_channels: Net())
    before = {name: entry.clone() for name, entry in model.state_dict().items()}
    state = torch.get_rng_state()
    probe_model(model, WHO, 16, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(entry, before[name]) for name, entry in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_subclass_of_segmentation_model_is_used_as_it_is():
    model = built(lambda in_channels: UNet(in_channels, 2, 1))
    assert type(model) is UNet
    probe_model(model, WHO, 16, 1)

    class Doubled(UNet):
        def forward(self, x):
            return super().forward(x) * 3

    with pytest.raises(FlamesError, match=r"gives values from .*expected probabilities in \[0, 1\]"):
        probe_model(Doubled(1, 2, 1), WHO, 16, 1)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, "it is int, expected a subclass of SegmentationModel, or a callable"),
        (Net(), "it is Net, expected"),
        (lambda channels: None, "it has no argument in_channels"),
        (lambda in_channels: None, ""),
        (lambda **options: None, ""),
        (Net, ""),
        (UNet, ""),
    ],
)
def test_an_object_that_is_no_builder_is_named(found, message):
    assert find_callable_fault(found).startswith(message)
    assert bool(find_callable_fault(found)) == bool(message)


FILE = """
from functools import partial
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels: int, width: "int" = 4, rate: float = 0.0, name="net", **others):
        super().__init__(
            nn.Conv2d(in_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ConvTranspose2d(width, 1, 2, 2)
        )

def plain(in_channels, width: int = 4):
    return Net(in_channels, width)

def reading(in_channels):
    net = Net(in_channels)
    float(net[0].weight[0, 0, 0, 0].detach())
    return net

plain.training_defaults = {"lr": 0.02, "batch_size": 3}
plain.min_size = 8
wrong = partial(plain, width=4)
wrong.training_defaults = {"lr": -1.0}
odd = partial(plain)
odd.training_defaults = {"epochs": 3}
MODELS = {"net": Net, "plain": plain, "reading": reading, "wrong": wrong, "odd": odd}
"""


@pytest.fixture
def file(site, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    use_files([path])
    return path


def test_a_model_of_a_file_is_built_by_its_name_and_options(file):
    model = build_model("plain", seed=1, **options_for(3, {"width": 6}))
    assert isinstance(model, LogitsModel)
    assert model.net[0].weight.shape == (6, 3, 3, 3)
    assert model.min_size == 8
    again = build_model("plain", seed=1, **options_for(3, {"width": 6}))
    assert all(torch.equal(entry, again.state_dict()[name]) for name, entry in model.state_dict().items())
    assert plugin_of("plain") == str(MODELS.origin("plain"))
    assert plugin_of("unet") is None
    probe_model(model, WHO, 16, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plain", {"depth": 3}, "unknown option 'depth' of model plain: it has in_channels, width"),
        ("plain", {"width": 1.5}, "option width = 1.5 of model plain: expected int"),
        ("net", {"width": 1.5}, "option width = 1.5 of model net: expected int"),
        ("net", {"rate": "0"}, "option rate = '0' of model net: expected float"),
        ("net", {"seed": 3}, "unknown option 'seed' of model net"),
        ("net", {"name": 3}, "unknown option 'name' of model net"),
    ],
)
def test_options_are_checked_by_the_signature(file, name, options, message):
    with pytest.raises(FlamesError, match=message):
        check_options(name, options)


def test_options_of_any_name_are_for_callables_that_take_them(file):
    check_options("net", {"in_channels": 1, "width": 3, "rate": 1, "depth": 3.5})


def test_a_plug_in_may_have_its_own_defaults_of_training(file):
    assert training_defaults("plain") == {"lr": 0.02, "batch_size": 3}
    assert training_defaults("net") == training_defaults("unet")
    with pytest.raises(
        FlamesError, match=r"'wrong' of the plug-in mine.py .* has training_defaults with lr -1"
    ):
        training_defaults("wrong")
    with pytest.raises(FlamesError, match=r"'odd' .* has training_defaults \{'epochs': 3\}, expected"):
        training_defaults("odd")


@pytest.mark.parametrize("name", ["plain", "reading"])
def test_the_architecture_of_a_plug_ins_model_is_described(file, name):
    """Also of a network that reads a number while it is built, which the device meta cannot."""
    table = describe_architecture(name, 16, channels=3)
    model = build_model(name, seed=0, in_channels=3)
    assert table.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [stage.name for stage in table.stages] == ["input", "0", "1", "2", "output"]
    assert table.stages[1].shape == (4, 8, 8)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_weights_of_the_original_program_fit(file, tmp_path, prefix):
    state = build_model("plain", seed=5, in_channels=1).net.state_dict()
    torch.save({prefix + name: entry for name, entry in state.items()}, tmp_path / "theirs.pt")
    found = read_complete(tmp_path / "theirs.pt", "plain", "batch", {"in_channels": 1})
    assert list(found) == list(state)
    torch.save(dict(state), tmp_path / "state.pt")
    model = build_model("plain", tmp_path / "state.pt", seed=6, in_channels=1)
    assert all(torch.equal(entry, state[name]) for name, entry in model.state_dict().items())


def test_every_model_is_a_segmentation_model(file):
    assert all(isinstance(build_model(name, in_channels=1), SegmentationModel) for name in ("net", "plain"))
