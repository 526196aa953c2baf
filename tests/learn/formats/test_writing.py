import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.formats import TOLERANCE, agreement, writing
from flames_cli.learn.formats.onnx_files import open_onnx
from flames_cli.learn.formats.programs import build_program
from flames_cli.learn.formats.torch_export_files import open_torch_export
from flames_cli.learn.formats.writing import write_formats
from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.store.model_formats import read_formats
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training

NO_IMAGES = np.zeros((0, 32, 32), np.float32)
NORMS = {"unet": "group", "utnet": "frozen"}
"""Normalisation of the models that are not tested with BatchNorm."""
MARKS = dict.fromkeys(("densenet-unet", "sd-utnet", "utnet"), pytest.mark.long)


def make(name="unet", norm="batch", channels=1, size=32):
    """Return a model with random weights and statistics, so that its probabilities are not all near 0.5."""
    options = {} if name == "densenet-unet" else {"base_channels": 4, "depth": 2}
    model = build_model(name, seed=1, norm=norm, in_channels=channels, **options)
    rng = np.random.default_rng(0)
    weights = to_weights(model)
    for entry, array in weights.items():
        if entry.endswith("running_mean"):
            weights[entry] = rng.normal(0, 0.2, array.shape).astype(np.float32)
        elif entry.endswith("running_var"):
            weights[entry] = rng.uniform(0.1, 2, array.shape).astype(np.float32)
    info = ModelInfo(
        "mri",
        Architecture(name, norm, options),
        ModelInput("MRI", ("brain",), size, channels),
        Training("file"),
    )
    return info, weights


def real(n, channels=1, size=32):
    rng = np.random.default_rng(1)
    shape = (n, size, size) if channels == 1 else (n, size, size, channels)
    return rng.random(shape, np.float32)


@pytest.fixture(autouse=True, scope="module")
def onnx():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def written(onnx, tmp_path_factory):
    """Return a model, and a folder with its files."""
    info, weights = make()
    info, folder = replace(info, threshold=0.4), tmp_path_factory.mktemp("written")
    write_formats(folder, info, weights, ["onnx", "torch-export"], NO_IMAGES)
    return info, weights, folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "channels"),
    [
        pytest.param(name, NORMS.get(name, "batch"), 3 if name == "unet" else 1, marks=MARKS.get(name, ()))
        for name in MODELS
    ],
)
def test_every_model_agrees_with_torch_in_onnx_and_torch_export(tmp_path, name, norm, channels):
    info, weights = make(name, norm, channels)
    onnx, torch_export = write_formats(tmp_path, info, weights, ["onnx", "torch-export"], real(4, channels))
    assert onnx.largest_difference <= TOLERANCE
    assert torch_export.largest_difference <= TOLERANCE
    assert (onnx.random_images, onnx.real_images) == (8, 4)
    assert read_formats(tmp_path) == {"onnx": onnx, "torch-export": torch_export}


def test_the_files_take_batches_of_any_size_and_give_probabilities_of_torch(written):
    info, weights, folder = written
    program = build_program(info, weights)

    for n in (1, 3, 7):
        images = real(n)[:, None]
        with torch.no_grad():
            expected = program(torch.from_numpy(images)).numpy()
        assert expected.std() > 0.005  # a constant would agree with anything
        for found in (
            open_onnx(folder / "model.onnx")(images),
            open_torch_export(folder / "model.pt2")(images),
        ):
            assert found.shape == (n, 1, 32, 32)
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_the_onnx_file_describes_the_model_and_names_no_folder(written):
    import onnx

    path = written[2] / "model.onnx"
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (found["modality"], found["size"], found["threshold"]) == ("MRI", "32", "0.4")
    assert "Lanczos" in found["preparation"]
    content = path.read_bytes()
    assert b"flames_cli/" not in content
    assert b".py" not in content


def test_the_torch_export_file_describes_the_model_and_names_no_folder(written):
    with zipfile.ZipFile(written[2] / "model.pt2") as archive:
        [extra] = [name for name in archive.namelist() if name.endswith("flames.json")]
        assert json.loads(archive.read(extra))["modality"] == "MRI"
        assert not any(b"flames_cli/" in archive.read(name) for name in archive.namelist())


def test_the_same_model_gives_the_same_bytes(written, tmp_path):
    info, weights, folder = written
    write_formats(tmp_path, info, weights, ["onnx", "torch-export"], NO_IMAGES)
    for name in ("model.onnx", "model.pt2", "formats.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_file_that_differs_from_torch_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    info, weights = make()

    def other(path):
        run = open_onnx(path)
        return lambda images: run(images) + 2e-4

    monkeypatch.setattr(writing, "open_onnx", other)
    with pytest.raises(FlamesError, match=r"the ONNX file of model mri differs from torch by 0\.0002"):
        write_formats(tmp_path, info, weights, ["onnx"], NO_IMAGES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [np.nan, "shape"])
def test_a_file_that_gives_no_numbers_or_another_shape_is_an_error(wrong):
    info, weights = make()
    program = build_program(info, weights)

    def run(images):
        return images[:, :, 1:] if wrong == "shape" else images * wrong

    expected = agreement.run_in_torch(program)
    found = agreement.compare(run, expected, agreement.random_batches(info), NO_IMAGES)
    with pytest.raises(FlamesError, match="expected at most 0"):
        agreement.check_agreement(found, "the ONNX file", "mri")


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    info, weights = make()
    with pytest.raises(FlamesError, match=r"onnxruntime.*pip install 'flames-cli\[onnx\]'"):
        write_formats(tmp_path, info, weights, ["torch-export", "onnx"], NO_IMAGES)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_model_are_an_error(tmp_path):
    info, _ = make()
    _, weights = make("utnet")
    with pytest.raises(FlamesError, match="weights do not fit the model"):
        write_formats(tmp_path, info, weights, ["torch-export"], NO_IMAGES)
    assert not list(tmp_path.iterdir())
