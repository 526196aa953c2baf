import copy

import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.core.federated.reports import Entries
from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import place
from flames_cli.learn.local_updates import make_local_update
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.models.freezing import frozen
from flames_cli.learn.models.logits_model import LogitsModel
from flames_cli.learn.models.norms import FrozenBatchNorm2d, set_norm
from flames_cli.learn.models.smallest_batch import smallest_batch
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions
from tests.support.datasets import draw_discs

WHO = "model 'x' of the plug-in some 1.0"


class Net(nn.Module):
    """A network with skips of another program: no FLAMES in it."""

    def __init__(self, in_channels=1, width=4, norm=nn.BatchNorm2d):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(in_channels, width, 3, 2, 1), norm(width), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.head = nn.ConvTranspose2d(width, 1, 2, 2)

    def forward(self, x):
        return self.head(self.down(x)) * self.scale


def model_of(net=None, **options):
    return LogitsModel(net or Net(), 1, WHO, **options)


@pytest.fixture
def images():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_probabilities_are_the_sigmoid_of_the_networks_logits(images):
    net = Net().eval()
    torch.testing.assert_close(model_of(net)(images), net(images).sigmoid(), rtol=0, atol=0)


def test_names_of_entries_are_those_of_the_network():
    net, model = Net(), model_of(Net())
    assert list(model.state_dict()) == list(net.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert [name for name, _ in model.named_buffers()] == [name for name, _ in net.named_buffers()]
    load_weights(model, to_weights(net))
    for name, entry in net.state_dict().items():
        assert torch.equal(entry, model.state_dict()[name])


def test_a_module_around_the_model_has_torchs_names():
    around = nn.Sequential(model_of())
    assert set(around.state_dict()) == {f"0.net.{name}" for name in Net().state_dict()}
    assert {name for name, _ in around.named_parameters()} < set(around.state_dict())
    around.load_state_dict(copy.deepcopy(around.state_dict()))


def test_entries_say_what_is_trained_and_what_normalises():
    assert describe_entries(model_of()) == Entries(
        trainable=frozenset({name for name, _ in Net().named_parameters()}),
        norm=frozenset(f"down.1.{name}" for name in nn.BatchNorm2d(1).state_dict()),
        shared=None,
        style=frozenset(),
        variances=frozenset({"down.1.running_var"}),
    )


@pytest.mark.parametrize("rule", ["fedgs", "fedprox"])
def test_local_update_rules_find_the_parameters(rule, images):
    model = model_of()
    start = to_weights(model)
    update = make_local_update(rule, model, torch.optim.SGD(model.parameters(), lr=0.1), mu=0.1)
    update.scale = 2.0
    model(images).mean().backward()
    update.step()
    found = update.weights()
    assert list(found) == list(start)
    moved, trained = found["scale"] - start["scale"], to_weights(model)["scale"] - start["scale"]
    assert moved == pytest.approx((2 if rule == "fedgs" else 1) * trained)


@pytest.mark.parametrize(
    ("norm", "kind"), [("group", nn.GroupNorm), ("frozen", FrozenBatchNorm2d), ("batch", nn.BatchNorm2d)]
)
def test_batchnorm_of_a_network_is_replaced(norm, kind, images):
    model = model_of()
    set_norm(model, norm)
    assert type(model.net.down[1]) is kind
    assert model.eval()(images).shape == images.shape


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.InstanceNorm2d, "this one has no BatchNorm"),
        (nn.SyncBatchNorm, "this one has SyncBatchNorm, which is no nn.BatchNorm2d with statistics"),
        (lambda n: nn.BatchNorm2d(n, track_running_stats=False), "this one has BatchNorm2d, which is no"),
    ],
)
def test_a_norm_that_cannot_be_replaced_is_an_error(layer, message):
    for norm in ("group", "frozen"):
        with pytest.raises(FlamesError, match=f"--norm {norm} replaces .*{message}.*leave --norm out"):
            set_norm(model_of(Net(norm=layer)), norm)


def test_replaced_layers_have_weights_only_where_the_old_ones_had():
    for norm in ("group", "frozen"):
        model = model_of(Net(norm=lambda n: nn.BatchNorm2d(n, affine=False)))
        set_norm(model, norm)
        assert not list(model.net.down[1].parameters())


class Deep(nn.Module):
    """A network with squeeze and excitation: its smallest map is of one pixel, and no bottleneck."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, 2, 1), nn.Conv2d(3, 5, 3, 2, 1)
        self.excite, self.last = nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 6, 1)
        self.up = nn.ConvTranspose2d(6, 1, 4, 4)

    def forward(self, x):
        deep = self.second(self.first(x))
        return self.up(self.last(deep * self.excite(deep).sigmoid()))


def test_the_bottleneck_is_the_last_of_the_smallest_maps(images):
    model = model_of(Deep())
    assert model.bottleneck(images).shape == (2, 6, 4, 4)
    hooks = [module._forward_hooks for module in model.modules()]
    assert not any(hooks)


def test_a_network_without_a_smaller_map_has_no_bottleneck(images):
    with pytest.raises(FlamesError, match=f"{WHO} has no feature map .* smaller than its image"):
        model_of(nn.Conv2d(1, 1, 3, padding=1)).bottleneck(images)


FAULTS = {
    "a tuple": (lambda x: (x, x), "returns tuple, expected one tensor of logits.*deep supervision"),
    "a list": (lambda x: [x], "returns list"),
    "a dictionary": (lambda x: {"out": x}, "returns dict"),
    "two channels": (lambda x: x.repeat(1, 2, 1, 1), "maps images of shape 2×1×16×16 to 2×2×16×16, expected"),
    "half the size": (lambda x: x[..., ::2, ::2], "to 2×1×8×8, expected logits 2×1×16×16"),
    "no channel": (lambda x: x[:, 0], "to 2×16×16, expected"),
    "one number an image": (lambda x: x.mean(dim=(2, 3)), "to 2×1, expected"),
}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(())), function

    def forward(self, x):
        return self.function(x * self.weight)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_result_is_named_in_one_line(fault, images):
    function, message = FAULTS[fault]
    with pytest.raises(FlamesError, match=message) as error:
        model_of(Function(function))(images)
    assert str(error.value).startswith(WHO)
    assert "\n" not in str(error.value)


def test_images_of_other_channels_are_an_error():
    with pytest.raises(FlamesError, match="got images of shape"):
        model_of()(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("last", [True, False])
def test_memory_is_channels_last_only_where_the_plug_in_can(last):
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            seen.append(x.is_contiguous())
            return self.conv(x)

    model = place(LogitsModel(Watch(), 2, WHO, channels_last=last), torch.device("cpu"), "fp32")
    model(torch.zeros(1, 2, 4, 4).to(memory_format=torch.channels_last))
    assert seen == [not last]
    wide = place(
        LogitsModel(nn.Conv2d(4, 1, 3, padding=1), 4, WHO, channels_last=last), torch.device("cpu"), "fp32"
    )
    assert wide.net.weight.is_contiguous(memory_format=torch.channels_last) == last


class Reading(Net):
    """A network that reads a number in its forward pass, which the device meta has not."""

    def forward(self, x):
        return super().forward(x) if float(x.abs().max()) < 9 else x


@pytest.mark.parametrize("net", [Net, Reading])
@pytest.mark.parametrize(("size", "expected"), [(2, 2), (4, 1)])
def test_the_smallest_batch_is_found_without_a_known_smallest_size(net, size, expected):
    model = model_of(net())
    before = copy.deepcopy(model.state_dict())
    assert smallest_batch(model, size) == expected
    assert all(torch.equal(entry, before[name]) for name, entry in model.state_dict().items())


def test_a_copy_is_a_model_of_its_own(images):
    model = model_of()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.net.scale.fill_(3)
    assert model.state_dict()["scale"] == 1
    assert list(other.state_dict()) == list(model.state_dict())


class WithEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def test_the_encoder_of_a_network_that_has_one_is_frozen(images):
    model = model_of(WithEncoder()).train()
    before = to_weights(model)
    with frozen(model, "encoder"):
        model(images).mean().backward()
        assert [name for name, one in model.named_parameters() if one.grad is not None] == [
            "head.weight",
            "head.bias",
        ]
    for name, array in to_weights(model).items():
        np.testing.assert_array_equal(array, before[name])
    with (
        pytest.raises(FlamesError, match="does not say which entries its encoder has"),
        frozen(model_of(), "encoder"),
    ):
        pass


def test_scaffold_corrects_a_parameter_without_dimensions():
    zeros = {name: np.zeros(one.shape, np.float32) for name, one in model_of().named_parameters()}
    local = LocalRound(
        seed=0,
        round=1,
        client="a",
        options=TrainOptions(local_epochs=1, batch_size=4, optimiser="sgd", lr=0.1),
        rule="scaffold",
        controls=Controls(zeros, zeros),
    )
    cases = ShardDataset([draw_discs(4)])
    found = train_epochs(model_of(), cases, ShardDataset([]), local, torch.device("cpu"), "fp32")
    assert {name: array.shape for name, array in found.control_change.items()} == {
        name: array.shape for name, array in zeros.items()
    }
    assert isinstance(found.control_change["scale"], np.ndarray)
