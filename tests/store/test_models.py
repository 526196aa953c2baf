import dataclasses

import numpy as np
import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.models import (
    Architecture,
    ModelInfo,
    ModelInput,
    Seen,
    TrainedOn,
    Training,
    read_model,
    read_model_info,
    write_model,
)

INFO = ModelInfo(
    name="flames-MRI",
    architecture=Architecture("unet", "batch", {"base": 4, "in_channels": 1}),
    input=ModelInput(
        "MRI", ("brain",), 64, intensities=(IntensityRule((-160.0, 240.0)), IntensityRule(None, 99.0))
    ),
    training=Training("server", "flames", strategy="flames", clients=(TrainedOn("a", "MRI", "brain", 3, 9),)),
    validation={"dice": 0.5},
    seen=Seen(9, (200.0, 240.0), (200.0, 240.0), (0.1, 0.2), (0.1, 0.3), (0.5, 0.6)),
)
WEIGHTS = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float32)}


def test_a_model_that_was_written_is_read_as_it_was(tmp_path):
    made = write_model(tmp_path / "m", INFO, WEIGHTS, "# A model\n")
    info, weights = read_model(tmp_path / "m")
    assert info == made == dataclasses.replace(INFO, sha256=made.sha256)
    assert list(weights) == ["b", "a"]
    assert np.array_equal(weights["b"], WEIGHTS["b"])


def test_a_folder_without_a_model_is_named_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(MissingArtifact, match="flames export"):
        read_model_info(tmp_path)


def test_weights_that_were_changed_are_rejected(tmp_path):
    write_model(tmp_path / "m", INFO, WEIGHTS, "")
    path = tmp_path / "m" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(FlamesError, match="checksum differs"):
        read_model(tmp_path / "m")


@pytest.mark.parametrize(("old", "new"), [("size = 64", 'size = "64"'), ('norm = "batch"', "norm = 3")])
def test_a_wrong_entry_is_named(tmp_path, old, new):
    write_model(tmp_path / "m", INFO, WEIGHTS, "")
    path = tmp_path / "m" / "model.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FlamesError, match=r"size|norm"):
        read_model_info(tmp_path / "m")
