"""Colour images from preprocessed files to tables, pictures and maps."""

import json

import numpy as np
import pytest
from PIL import Image

from flames_cli.config import EvaluateConfig, PartitionConfig, TsneConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.tsne.stage import tsne
from flames_cli.store.cases import SetInfo
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import read_config
from flames_cli.store.workspace import partition_file
from tests.support.datasets import write_noise
from tests.support.stages import federate_config

pytestmark = pytest.mark.federated

ORGANS = {"busi": "breast", "otu2d": "ovary"}
SETS = {
    "client_train": [(name, name, 2) for name in "abcd"],
    "client_test": [("e", "e", 2)],
    "server_test": [("f", "f", 2)],
}


@pytest.fixture
def divide(tmp_path):
    """Return divide(3): the workspace, with two clients and a server of noise with so many channels."""

    def make(channels):
        for dataset, organ in ORGANS.items():
            info = SetInfo(dataset, "US", organ, 16, 255, channels, patient_unit="image")
            write_noise(tmp_path / "preprocessed" / f"{dataset}.h5", SETS, info)
        partition(PartitionConfig(workspace=tmp_path, overwrite=True))
        return tmp_path

    return make


def score(root, **options):
    return evaluate(EvaluateConfig(workspace=root, device="cpu", precision="fp32", batch_size=4, **options))


def test_colour_images_are_trained_on_scored_and_drawn(divide):
    root = divide(3)
    run = federate(federate_config(root, batch_size=4))
    assert read_config(run.folder / "config.toml")["run"]["channels"] == 3
    assert [record["rejected"] for record in run.records] == [{}, {}]
    state = load_state(run.folder / "checkpoints")
    assert state.server["US"]["encoders.0.0.weight"].shape == (4, 3, 3, 3)
    result = score(root)
    assert [(row.label, row.n) for row in result.clients] == [("busi", 2), ("otu2d", 2)]
    assert [(row.organ, row.n) for row in result.server] == [("all organs", 4), ("breast", 2), ("ovary", 2)]
    assert all(0 <= row.metrics["dice"].mean <= 1 for row in (*result.clients, *result.server))
    with Image.open(result.folder / "overlays-client.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 100).mean() > 0.1


@pytest.mark.parametrize("features", ["pixels", "deep"])
def test_colour_images_have_a_map(features, divide):
    root = divide(3)
    if features == "deep":
        federate(federate_config(root, rounds=1))
    made = tsne(TsneConfig(workspace=root, features=features, device="cpu"))
    images = json.loads(partition_file(root).read_text(encoding="utf-8"))["clients"]
    assert made.images == {entry["name"]: entry["images"]["train"] for entry in images}


def test_a_run_of_grey_images_does_not_resume_with_colour_images(divide):
    federate(federate_config(divide(1), rounds=1))
    with pytest.raises(
        FlamesError,
        match=r"partition 'default' as it was before, which is .*; channels 1 → 3\).* or --resume flames",
    ):
        federate(federate_config(divide(3)))
    assert federate(federate_config(divide(3), fresh=True)).resumed_from == 0


def test_a_model_of_grey_images_is_rejected_before_any_training(divide):
    root = divide(3)
    with pytest.raises(FlamesError, match="in_channels = 1, but the images have 3; leave it out"):
        federate(federate_config(root, model_options={"base_channels": 4, "depth": 2, "in_channels": 1}))
    assert not (root / "runs").exists()
