import socket
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.errors import FlamesError
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.weights import DENSENET_PARTS, DOWNLOAD_TIMEOUT_S, load_encoder
from flames_cli.store.weights import write_safetensors

ENCODER = tuple(DENSENET_PARTS)
SMALL = {"base_channels": 2, "depth": 1}


@pytest.fixture(scope="module")
def densenet():
    from torchvision.models import densenet121

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        return OrderedDict(densenet121(weights=None).state_dict())


@pytest.fixture(scope="module")
def model():
    """One model for all tests; a test that loads into it must not rely on its weights."""
    return build_model("densenet-unet", seed=0)


def old_spelling(state):
    """The state dict with the names of torchvision's download, which has no batch counters."""
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    return {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2."): tensor
        for name, tensor in kept.items()
    }  # fmt: skip


def check_only_the_encoder_changed(model, before, densenet):
    for name, array in to_weights(model).items():
        part = name.split(".")[0] + "."
        if part in ENCODER:
            expected = densenet[DENSENET_PARTS[part] + name.removeprefix(part)].numpy()
        else:
            expected = before[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)


def scramble(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    return to_weights(model)


def check_rejected(model, source, message):
    before = to_weights(model)
    with pytest.raises(FlamesError, match=message) as caught:
        load_encoder(model, source)
    assert "\n" not in str(caught.value)
    after = to_weights(model)
    assert all(np.array_equal(after[name], array) for name, array in before.items())


@pytest.mark.parametrize(("spelling", "suffix"), [(OrderedDict, ".pt"), (old_spelling, ".safetensors")])
def test_a_densenet121_file_fills_the_encoder_alone(tmp_path, model, densenet, spelling, suffix):
    path, state = tmp_path / f"densenet{suffix}", spelling(densenet)
    if suffix == ".safetensors":
        write_safetensors(path, {name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path)
    before = scramble(model)
    load_encoder(model, str(path))
    check_only_the_encoder_changed(model, before, densenet)


def test_a_densenet121_file_fills_the_encoder_of_a_model_of_colour_images(tmp_path, densenet):
    torch.save(densenet, tmp_path / "d.pth")
    model = build_model("densenet-unet", seed=0, in_channels=3)
    before = to_weights(model)
    load_encoder(model, tmp_path / "d.pth")
    check_only_the_encoder_changed(model, before, densenet)
    assert before["encoder0.weight"].shape == (64, 3, 7, 7)


def test_a_densenet121_in_the_oldest_torch_format_is_read(tmp_path, model, densenet):
    torch.save(old_spelling(densenet), tmp_path / "d.pth", _use_new_zipfile_serialization=False)
    before = scramble(model)
    load_encoder(model, tmp_path / "d.pth")
    check_only_the_encoder_changed(model, before, densenet)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_complete_state_dict_fills_everything(tmp_path, model, suffix):
    path, expected = tmp_path / f"whole{suffix}", build_model("densenet-unet", seed=9)
    if suffix == ".safetensors":
        write_safetensors(path, to_weights(expected))
    else:
        torch.save(expected.state_dict(), path)
    load_encoder(model, path)
    found = to_weights(model)
    assert all(np.array_equal(found[name], array) for name, array in to_weights(expected).items())


def test_build_model_loads_a_complete_unet(tmp_path):
    expected = build_model("unet", seed=1, **SMALL)
    torch.save(expected.state_dict(), tmp_path / "unet.pth")
    found = to_weights(build_model("unet", tmp_path / "unet.pth", seed=2, **SMALL))
    assert all(np.array_equal(found[name], array) for name, array in to_weights(expected).items())


def test_none_does_not_change_the_model():
    model = build_model("unet", seed=1, **SMALL)
    before = to_weights(model)
    load_encoder(model, "none")
    assert all(np.array_equal(array, before[name]) for name, array in to_weights(model).items())


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_rejected_and_never_run(tmp_path, zipped):
    state = {"head.weight": torch.zeros(1), "bomb": Bomb(tmp_path / "exploded")}
    torch.save(state, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    check_rejected(build_model("unet", **SMALL), tmp_path / "bad.pth", "cannot read.*tensors only")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 cut zip", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_rejected(tmp_path, content, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    check_rejected(build_model("unet", **SMALL), path, "bad")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([torch.zeros(1)], "no plain state dict"),
        ({"epoch": 3}, "no plain state dict"),
        ({"model": {"head.weight": torch.zeros(1)}}, "no plain state dict"),
        ({}, r"missing encoders\.0\.0\.weight and \d+ more"),
        ({"head.weight": torch.zeros(1, dtype=torch.bfloat16)}, "not a plain array"),
    ],
)
def test_a_file_of_something_else_is_rejected(tmp_path, state, message):
    torch.save(state, tmp_path / "other.pth")
    check_rejected(build_model("unet", **SMALL), tmp_path / "other.pth", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.bias"), r"missing head\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"head.bias": torch.zeros(2)}), r"head\.bias has shape \(2,\), expected \(1,\)"),
        (lambda s: s.update({"head.bias": torch.tensor([float("nan")])}), r"head\.bias is not finite"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_rejected_by_entry(tmp_path, change, message):
    model = build_model("unet", **SMALL)
    state = dict(build_model("unet", **SMALL).state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    check_rejected(model, tmp_path / "w.pth", message)


def test_a_densenet_that_does_not_fit_is_rejected_by_entry(tmp_path, model, densenet):
    name = "features.denseblock1.denselayer1.conv1.weight"
    path = tmp_path / "d.pth"
    torch.save({key: tensor for key, tensor in densenet.items() if key != name}, path)
    check_rejected(model, path, f"{name} is missing".replace(".", r"\."))
    torch.save({**densenet, name: torch.zeros(1)}, path)
    check_rejected(model, path, r"encoder1\.denselayer1\.conv1\.weight has shape \(1,\)")


def test_densenet_weights_are_rejected_for_a_unet(tmp_path, densenet):
    torch.save(densenet, tmp_path / "d.pth")
    check_rejected(build_model("unet", **SMALL), tmp_path / "d.pth", "got weights of a DenseNet121")


def test_unet_has_no_imagenet_weights():
    check_rejected(build_model("unet", **SMALL), "imagenet", "no ImageNet weights.*none")


def test_a_missing_file_or_one_of_another_kind_is_named(tmp_path):
    model = build_model("unet", **SMALL)
    check_rejected(model, tmp_path / "absent.pth", r"no weights file .*absent\.pth.*imagenet.*none")
    (tmp_path / "w.onnx").touch()
    check_rejected(model, tmp_path / "w.onnx", r"'\.onnx', expected \.safetensors, \.pth or \.pt")


def test_without_a_network_imagenet_names_the_alternatives(tmp_path, monkeypatch, model, capsys):
    def refuse(*args, **kwargs):
        assert socket.getdefaulttimeout() == DOWNLOAD_TIMEOUT_S
        raise OSError("network is unreachable\nand more")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = str(tmp_path / "hub" / "checkpoints")
    check_rejected(
        model,
        "imagenet",
        rf"unreachable\).*put densenet121-\w+\.pth into {folder}"
        ".*--encoder-weights FILE.*--encoder-weights none",
    )
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""


def test_imagenet_weights_are_downloaded_once_and_fill_the_encoder(tmp_path, monkeypatch, model, densenet):
    downloads = []

    def download(url, destination, *args, **kwargs):
        downloads.append(url)
        torch.save(old_spelling(densenet), destination, _use_new_zipfile_serialization=False)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        before = scramble(model)
        load_encoder(model, "imagenet")
        check_only_the_encoder_changed(model, before, densenet)
    assert len(downloads) == 1


def test_a_hostile_file_in_the_download_cache_is_never_run(tmp_path, monkeypatch, model):
    from torchvision.models import DenseNet121_Weights

    cached = tmp_path / "hub" / "checkpoints" / DenseNet121_Weights.IMAGENET1K_V1.url.split("/")[-1]
    cached.parent.mkdir(parents=True)
    torch.save({"bomb": Bomb(tmp_path / "exploded")}, cached)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    check_rejected(model, "imagenet", f"cannot read {cached}")
    assert not (tmp_path / "exploded").exists()


def test_to_weights_gives_copies_in_state_dict_order():
    model = build_model("unet", **SMALL).to(memory_format=torch.channels_last)
    weights = to_weights(model)
    assert list(weights) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert weights[name].shape == tuple(tensor.shape)
        assert weights[name].flags.c_contiguous
        np.testing.assert_array_equal(weights[name], tensor.numpy())
    weights["head.bias"][:] = 99
    assert model.head.bias.item() != 99


def test_load_weights_restores_dtypes_and_ignores_order():
    source, model = (build_model("unet", seed=seed, **SMALL) for seed in (1, 2))
    source(torch.rand(2, 1, 4, 4))
    expected = to_weights(source)
    load_weights(model, {name: array.astype(">f8") for name, array in reversed(expected.items())})
    for name, array in to_weights(model).items():
        assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
        np.testing.assert_array_equal(array, expected[name])
    counters = [array for name, array in expected.items() if name.endswith("num_batches_tracked")]
    assert all(counter.dtype == np.int64 and counter.shape == () and counter == 1 for counter in counters)


def test_load_weights_copies_read_only_arrays():
    weights = to_weights(build_model("unet", seed=1, **SMALL))
    for array in weights.values():
        array.flags.writeable = False
    model = build_model("unet", seed=2, **SMALL)
    load_weights(model, weights)
    nn.init.zeros_(model.head.weight)
    assert weights["head.weight"].any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.bias", np.zeros(2), r"head\.bias has shape \(2,\), expected \(1,\)"),
        ("head.bias", np.array(["x"]), r"head\.bias is of type <U1"),
        ("encoders.0.1.num_batches_tracked", np.array(np.nan), "is not finite"),
        ("surplus", np.zeros(1), "unknown surplus"),
    ],
)
def test_load_weights_rejects_what_does_not_fit_and_changes_nothing(name, value, message):
    model = build_model("unet", seed=1, **SMALL)
    before = to_weights(model)
    foreign = {**to_weights(build_model("unet", seed=2, **SMALL)), name: value}
    with pytest.raises(FlamesError, match=message):
        load_weights(model, foreign)
    assert all(np.array_equal(array, before[key]) for key, array in to_weights(model).items())
