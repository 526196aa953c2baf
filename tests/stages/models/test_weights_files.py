import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError
from flames_cli.learn.models import build_model
from flames_cli.learn.use import open_model
from flames_cli.stages.models.adding import add_model, add_weights
from flames_cli.stages.models.weights_files import make_facts
from flames_cli.store.models import read_model

GOLDEN = Path(__file__).parents[3].parent / "shared" / "golden" / "flames_unet.json"
SMALL = {"base_channels": 4, "depth": 2}


def facts(**options):
    given = {"architecture": "unet", "modality": "MRI", "size": 32, "channels": 1, "norm": "batch"}
    given |= {"options": SMALL, "organs": ("brain",), "window": None, "threshold": 0.5, "licence": ""}
    return make_facts(**{**given, **options})


def write(path, **changes):
    state = build_model("unet", seed=4, **SMALL).state_dict()
    torch.save({**state, **changes}, path)
    return state


def test_a_file_of_weights_becomes_a_model_folder_that_predicts(tmp_path):
    state = write(tmp_path / "mine.pth")
    added = add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts(licence="cc-by-4.0", threshold=0.3))
    info, weights = read_model(added.folder)
    assert added.folder.name == "mine"
    assert (info.training.kind, info.licence, info.threshold) == ("file", "cc-by-4.0", 0.3)
    assert (info.input.modality, info.input.organs, info.input.size) == ("MRI", ("brain",), 32)
    assert info.input.intensities == (IntensityRule(),)
    assert all(np.array_equal(weights[name], tensor.numpy()) for name, tensor in state.items())
    found = open_model(info, weights, "cpu", "fp32", 2).probabilities(np.zeros((1, 32, 32), np.float32))
    assert found.shape == (1, 32, 32)
    assert "file of another tool" in (added.folder / "README.md").read_text()


def test_the_same_file_again_is_there_already_and_another_is_an_error(tmp_path):
    write(tmp_path / "mine.pth")
    assert add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts()).is_new
    assert not add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts()).is_new
    write(tmp_path / "mine.pth", **{"head.bias": torch.ones(1)})
    with pytest.raises(FlamesError, match="exists already and is another model"):
        add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts())


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs the shared files")
def test_a_checkpoint_with_the_names_and_shapes_of_the_authors_is_accepted(tmp_path):
    order = json.loads(GOLDEN.read_text())["order"]
    types = {"torch.float32": torch.float32, "torch.int64": torch.int64}
    state = {
        name: torch.full(shape, 0.01, dtype=torch.float32).to(types[kind]) for name, shape, kind in order
    }
    torch.save(state, tmp_path / "MRI.pth")
    given = facts(architecture="densenet-unet", options={}, size=240)
    added = add_weights(tmp_path / "ws", tmp_path / "MRI.pth", given)
    _, weights = read_model(added.folder)
    assert list(weights) == [name for name, _, _ in order]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "utnet"}, "for model utnet: weights do not fit the model"),
        ({"channels": 3}, "has shape"),
        ({"options": {"depth": 2}}, "has shape"),
    ],
)
def test_weights_of_another_architecture_are_an_error(tmp_path, changes, message):
    write(tmp_path / "mine.pth")
    with pytest.raises(FlamesError, match=message):
        add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts(**changes))
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [("head.bias", torch.tensor([float("inf")]), "is not finite"), ("1", None, "negative variance")],
)
def test_weights_that_cannot_be_used_are_an_error(tmp_path, entry, value, message):
    change = {"encoders.0.1.running_var": -torch.ones(4)} if value is None else {entry: value}
    write(tmp_path / "mine.pth", **change)
    with pytest.raises(FlamesError, match=message):
        add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts())


def test_a_pickle_with_code_is_an_error_and_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    torch.save({"head.bias": Hostile()}, tmp_path / "bad.pth")
    with pytest.raises(FlamesError, match="expected a state dict"):
        add_weights(tmp_path / "ws", tmp_path / "bad.pth", facts())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": None}, "got --architecture without --modality"),
        ({"size": None}, "got --architecture without --size"),
        ({"window": "5"}, "expected two numbers"),
        ({"window": "5,2"}, "the lower first"),
        ({"window": "nan,2"}, "expected two numbers"),
        ({"threshold": 1.0}, "expected a number above 0 and below 1"),
        ({"channels": 2}, "expected 1 .grey. or 3"),
        ({"norm": "layer"}, "got --norm layer"),
    ],
)
def test_wrong_facts_are_an_error(options, message):
    with pytest.raises(FlamesError, match=message):
        facts(**options)


def test_a_window_is_the_rule_of_its_volumes(tmp_path):
    write(tmp_path / "mine.pth")
    added = add_weights(tmp_path / "ws", tmp_path / "mine.pth", facts(modality="CT", window="-160,240"))
    assert read_model(added.folder)[0].input.intensities == (IntensityRule(window=(-160.0, 240.0)),)


def test_a_file_of_weights_without_an_architecture_and_the_reverse_are_errors(tmp_path):
    write(tmp_path / "mine.pth")
    with pytest.raises(FlamesError, match="does not say what it is; pass --architecture"):
        add_model(tmp_path / "ws", tmp_path / "mine.pth")
    with pytest.raises(FlamesError, match="is no file of weights"):
        add_weights(tmp_path / "ws", tmp_path / "mine.zip", facts())
