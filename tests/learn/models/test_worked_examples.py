"""The networks of other packages in examples/plugins, used as docs/plugins.md describes it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model, options_for, training_defaults
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.describe import describe_architecture
from flames_cli.learn.models.probing import probe_model
from flames_cli.learn.models.smallest_batch import smallest_batch
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.plugins import use_files
from tests.support.datasets import draw_discs
from tests.support.plugins import make_site

__all__ = ["make_site"]

FOLDER = Path(__file__).parents[3] / "examples" / "plugins"
CPU = torch.device("cpu")
SIZE = 32

NETS = {
    "monai-basic-unet": ("monai_models", ("monai",), {"features": 4}),
    "monai-unetr": (
        "monai_models",
        ("monai", "einops"),
        {"img_size": SIZE, "feature_size": 4, "hidden_size": 12, "num_heads": 2},
    ),
    "smp-unet": ("smp_models", ("segmentation_models_pytorch",), {"encoder_depth": 3}),
}


@pytest.mark.parametrize("name", NETS)
def test_a_network_of_another_package_trains_and_has_its_own_names(name, site):
    file, packages, options = NETS[name]
    for package in packages:
        pytest.importorskip(package)
    use_files([FOLDER / f"{file}.py"])
    every = options_for(1, options)
    model = build_model(name, seed=1, **every)
    probe_model(model, name, SIZE, smallest_batch(model, SIZE))
    assert list(to_weights(model)) == list(model.net.state_dict())
    deepest = model.eval().bottleneck(torch.zeros(2, 1, SIZE, SIZE))
    assert deepest.shape[2] < SIZE / 4

    cases = ShardDataset([draw_discs(6, size=SIZE)])
    local = LocalRound(
        0, 1, "a", TrainOptions(local_epochs=1, batch_size=3, lr=training_defaults(name)["lr"])
    )
    start = to_weights(model)
    trained = train_epochs(model, cases, ShardDataset([]), local, CPU, "fp32")
    assert np.isfinite(trained.train_loss)
    assert any(not np.array_equal(array, start[entry]) for entry, array in trained.weights.items())
    table = describe_architecture(name, SIZE, options=options)
    assert table.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_loss_and_the_augmentation_of_the_example_pass_the_checks_of_a_run(site):
    from flames_cli.learn.augmentations.applying import probe_augmentations
    from flames_cli.learn.plugin_losses import probe_loss

    use_files([FOLDER / "losses_and_augmentations.py"])
    probe_loss("tversky", SIZE)
    probe_augmentations(("erase",), SIZE, 3)


@pytest.fixture(autouse=True)
def _no_module_stays():
    yield
    for name in [name for name in sys.modules if name.startswith("flames_plugin_")]:
        del sys.modules[name]
