import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    "change",
    [
        {"licence": "mine\nall mine"},
        {"licence": "x" * 1001},
        {"licence": "." * 34},
        {"threshold": float("nan")},
        {"validation": {"dice": float("inf")}},
        {"input": dataclasses.replace(INFO.input, modality="\x1b[2J")},
    ],
)
def test_a_model_that_could_not_be_read_again_is_not_written(change, tmp_path):
    with pytest.raises(FlamesError, match="the model cannot be written"):
        write_model(tmp_path / "m", dataclasses.replace(INFO, **change), WEIGHTS, "")
    assert list(tmp_path.iterdir()) == []


TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=16)
COUNTS = st.integers(0, 10**9)
FLOATS = st.floats(-1e6, 1e6)
RULES = [IntensityRule(), IntensityRule((-1.5, 2.0)), IntensityRule(None, 1.0, "foreground")]
CLIENTS = st.builds(TrainedOn, TEXTS, TEXTS, TEXTS, COUNTS, COUNTS)
PAIRS = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        ModelInfo,
        name=TEXTS,
        architecture=st.builds(
            Architecture,
            TEXTS,
            TEXTS,
            st.dictionaries(TEXTS, COUNTS | TEXTS | st.floats(-1e6, 1e6), max_size=3),
        ),
        input=st.builds(
            ModelInput,
            modality=TEXTS,
            organs=st.lists(TEXTS, max_size=3).map(tuple),
            size=st.integers(1, 4096),
            channels=st.sampled_from([1, 3]),
            plane=st.sampled_from(["axial", "coronal", "sagittal"]),
            intensities=st.lists(
                st.sampled_from(
                    [IntensityRule(), IntensityRule((-1.5, 2.0)), IntensityRule(None, 1.0, "foreground")]
                )
            ).map(tuple),
        ),
        training=st.builds(
            Training,
            kind=st.sampled_from(["client", "server", "file"]),
            why=TEXTS,
            round=COUNTS,
            seed=COUNTS,
            clients=st.lists(st.builds(TrainedOn, TEXTS, TEXTS, TEXTS, COUNTS, COUNTS), max_size=3).map(
                tuple
            ),
        ),
        threshold=st.floats(0.001, 0.999),
        validation=st.dictionaries(TEXTS, st.floats(0, 1e6), max_size=3),
        versions=st.dictionaries(TEXTS, TEXTS, max_size=3),
        seen=st.none() | st.builds(Seen, COUNTS, PAIRS, PAIRS, PAIRS, PAIRS, PAIRS, st.none() | PAIRS),
    )
)
def test_whatever_is_written_is_read_as_it_was(tmp_path, info):
    made = write_model(tmp_path / "m", info, WEIGHTS, "")
    assert read_model_info(tmp_path / "m") == made == dataclasses.replace(info, sha256=made.sha256)
