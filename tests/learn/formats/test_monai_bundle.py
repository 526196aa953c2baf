import json
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.imaging.geometry import map_from_square, to_square
from flames_cli.core.imaging.intensity import dequantise, percentile_range, quantise, scale
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.volumes import from_ras, take_slice, to_ras
from flames_cli.errors import FlamesError
from flames_cli.learn.formats.monai_configs import SCHEMA
from flames_cli.learn.formats.writing import require_formats, write_formats
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.use import open_model
from flames_cli.store.model_formats import read_formats
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training

pytestmark = pytest.mark.slow

SIZE = 32
NO_IMAGES = np.zeros((0, SIZE, SIZE), np.float32)
REQUIRED = (
    *("version", "monai_version", "pytorch_version", "numpy_version", "optional_packages_version", "task"),
    *("description", "authors", "copyright", "network_data_format"),
)
"""Mandatory keys of metadata.json, by MONAI's specification of bundles."""
TENSOR = (
    *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
    *("channel_def", "modality"),
)


@pytest.fixture(autouse=True)
def runner():
    pytest.importorskip("ignite")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a model, its folder with a bundle, and the result of its check; the folder stays as it is."""
    pytest.importorskip("ignite")
    info, weights = make()
    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (written,) = write_formats(folder, info, weights, ["monai-bundle"], NO_IMAGES)
    return info, weights, folder, written


def make(rule=None, plane="axial", channels=1):
    """Return a model whose masks have edges everywhere: its threshold is the median of its probabilities."""
    options = {"base_channels": 4, "depth": 2}
    model = build_model("unet", seed=3, in_channels=channels, **options)
    weights = to_weights(model)
    weights["head.weight"] = weights["head.weight"] * 40
    given = ModelInput("MRI", ("brain",), SIZE, channels, plane, "aligned", (rule,) if rule else ())
    info = ModelInfo("mri", Architecture("unet", "batch", options), given, Training("file"))
    noise = np.random.default_rng(5).random(
        (8, SIZE, SIZE) if channels == 1 else (8, SIZE, SIZE, 3), np.float32
    )
    found = open_model(info, weights, "cpu", "fp32", 8).probabilities(noise)
    return replace(info, threshold=round(float(np.median(found)), 3)), weights


def run_bundle(bundle, data, out, *configs):
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / name) for name in ("inference.json", *configs)],
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(data),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()


def ours_of_slice(model, info, image):
    """Return the probabilities of a slice in [0, 1], or of a still image of 8 bits."""
    square, _ = to_square(image, np.zeros(image.shape[:2], np.uint8), SIZE)
    stored, levels = (square, 255) if image.dtype == np.uint8 else (quantise(square, 4095), 4095)
    probabilities = model.probabilities(dequantise(stored, levels)[None])[0]
    return map_from_square(probabilities, *image.shape[:2])


def dice(left, right):
    return 2 * (left & right).sum() / (left.sum() + right.sum())


def write_volume(path, axes):
    """Write a NIfTI of 20×26×7 voxels with the axis codes `axes` and an oblique affine."""
    voxels = np.random.default_rng(2).gamma(2.0, 100.0, (20, 26, 7)).astype(np.int16)
    turn = nibabel.orientations.axcodes2ornt(tuple(axes))
    affine = nibabel.orientations.inv_ornt_aff(turn, voxels.shape) @ np.diag([1.0, 1.5, 3.0, 1.0])
    affine[:3, 3] = 5.0
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return voxels, affine


RULES = [
    (IntensityRule(percentile=95.0), "axial", "RAS"),
    pytest.param(IntensityRule(window=(50.0, 400.0)), "coronal", "LPS", marks=pytest.mark.long),
    (IntensityRule(percentile=90.0, percentile_of="foreground"), "sagittal", "PIR"),
]


@pytest.mark.parametrize(("rule", "plane", "axes"), RULES)
def test_masks_of_a_volume_agree_with_ours_in_the_geometry_of_its_file(tmp_path, rule, plane, axes):
    info, weights = make(rule, plane)
    write_formats(tmp_path / "m", info, weights, ["monai-bundle"], NO_IMAGES)
    (tmp_path / "data").mkdir()
    voxels, affine = write_volume(tmp_path / "data" / "v.nii.gz", axes)
    run_bundle(tmp_path / "m" / "monai-bundle", tmp_path / "data", tmp_path / "out")

    found = nibabel.load(tmp_path / "out" / "v_mask.nii.gz")
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    mask = np.asanyarray(found.dataobj)
    assert mask.shape == voxels.shape
    assert set(np.unique(mask)) == {0, 1}

    codes = "".join(nibabel.aff2axcodes(affine))
    low, high = rule.window or percentile_range(voxels, rule.percentile, rule.percentile_of)
    ras = to_ras(scale(voxels, low, high), codes)
    model = open_model(info, weights, "cpu", "fp32", 8)
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    expected = np.zeros(ras.shape, np.float32)
    for index in range(ras.shape[axis]):
        probabilities = ours_of_slice(model, info, take_slice(ras, plane, index))
        np.moveaxis(expected, axis, 2)[:, :, index] = np.rot90(probabilities, -1)
    ours = from_ras(expected, codes) > info.threshold
    assert dice(mask > 0, ours) > 0.9998
    assert 0.1 < ours.mean() < 0.9


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_of_still_images_agree_with_ours_in_the_size_of_the_image(tmp_path, channels):
    info, weights = make(channels=channels)
    images = NO_IMAGES if channels == 1 else np.zeros((0, SIZE, SIZE, 3), np.float32)
    write_formats(tmp_path / "m", info, weights, ["monai-bundle"], images)
    (tmp_path / "data").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (41, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "data" / "one.png")
    run_bundle(tmp_path / "m" / "monai-bundle", tmp_path / "data", tmp_path / "out", "stills.json")

    with Image.open(tmp_path / "out" / "one_mask.png") as file:
        mask = np.asarray(file)
    grey = np.asarray(Image.fromarray(pixels).convert("L" if channels == 1 else "RGB"))
    model = open_model(info, weights, "cpu", "fp32", 8)
    ours = ours_of_slice(model, info, grey) > info.threshold
    assert mask.shape == (41, 60)
    assert set(np.unique(mask)) == {0, 255}
    assert dice(mask > 0, ours) > 0.9998


def test_the_metadata_pass_the_verification_of_monai(made, tmp_path):
    from monai.bundle import verify_metadata

    pytest.importorskip("jsonschema")
    path = tmp_path / "metadata.json"
    shutil.copy(made[2] / "monai-bundle" / "configs" / path.name, path)
    tensor = {"type": "object", "required": list(TENSOR)}
    tensors = {"type": "object", "minProperties": 1, "additionalProperties": tensor}
    formats = {"type": "object", "required": ["inputs", "outputs"]}
    schema = {
        "type": "object",
        "required": ["schema", *REQUIRED],
        "properties": {
            "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            "network_data_format": {**formats, "properties": {"inputs": tensors, "outputs": tensors}},
        },
    }
    # A schema that is there already is not downloaded.
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    verify_metadata(meta_file=str(path), filepath=str(tmp_path / "schema.json"))
    content = json.loads(path.read_text())
    assert content["schema"] == SCHEMA
    del content["task"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="task"):
        verify_metadata(meta_file=str(path), filepath=str(tmp_path / "schema.json"))


@pytest.mark.long
def test_the_command_of_the_readme_works_without_flames(made, tmp_path):
    pytest.importorskip("fire")
    bundle = made[2] / "monai-bundle"
    (tmp_path / "data").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (41, 60), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "data" / "one.png")
    readme = (bundle / "docs" / "README.md").read_text()
    command = next(block for block in readme.split("```") if "stills.json" in block)
    command = command.replace("\\\n", "")
    words = shlex.split(command.replace("DIR", str(tmp_path / "data")).replace("OUT", str(tmp_path / "out")))
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    code = (
        "import runpy, sys; sys.modules['flames_cli'] = None; "
        "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    )
    subprocess.run([sys.executable, "-c", code, *words[3:]], cwd=bundle, check=True, capture_output=True)
    assert (tmp_path / "out" / "one_mask.png").is_file()


def test_the_check_of_a_bundle_covers_other_sizes_than_the_model_s(made):
    *_, folder, written = made
    assert written.largest_difference <= 1e-4
    assert written.random_images == 8
    assert read_formats(folder) == {"monai-bundle": written}


def test_a_bundle_that_the_user_has_changed_is_renamed(made, tmp_path):
    info, weights, folder, _ = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    write_formats(tmp_path, info, weights, ["monai-bundle"], NO_IMAGES)  # the same bundle is left as it is
    assert not (tmp_path / "monai-bundle-old-1").exists()
    config = tmp_path / "monai-bundle" / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"sw_batch_size": 16', '"sw_batch_size": 4'))
    write_formats(tmp_path, info, weights, ["monai-bundle"], NO_IMAGES)
    assert '"sw_batch_size": 4' in (tmp_path / "monai-bundle-old-1/configs/inference.json").read_text()
    assert '"sw_batch_size": 16' in config.read_text()


def test_a_bundle_without_monai_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("flames_cli.learn.formats.monai_bundle.find_spec", lambda _: None)
    with pytest.raises(FlamesError, match=r"needs the package monai.*flames-cli\[monai-bundle\]"):
        require_formats(["torch-export", "monai-bundle"])
