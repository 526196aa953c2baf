import h5py
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.rng import derive_rng
from flames_cli.demo_data import DEMO_DATA
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.segment import Segmenter
from flames_cli.readers.inputs import find_inputs, read_input
from flames_cli.stages.predict import preparing
from flames_cli.stages.predict.preparing import InputHashes, ModelPreparation, prepare
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import CaseInfo, CaseSet, SetInfo
from flames_cli.store.files.hashes import hash_file
from tests.stages.predict.conftest import blobs, write_volume
from tests.support.bright_model import OPTIONS, bright_weights, write_bright_model
from tests.support.phantoms.dicom import write_series

RULE = IntensityRule(percentile=95.0)


def prepared_of(path, size, channels=1, rule=RULE):
    how = ModelPreparation(size, channels, "axial", "aligned", rule)
    return {
        image.name: prepare(image, InputHashes().of_image(image), [how], with_pictures=False)
        for image in find_inputs([path]).inputs
    }


def stored_images(file):
    """Every stored image with its case, whatever its set."""
    found = []

    def visit(name, entry):
        if isinstance(entry, h5py.Dataset) and name.endswith("/image"):
            found.extend(np.asarray(entry))

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return found


@pytest.mark.parametrize(
    ("dataset", "folder", "pattern"), [("otu2d", "images", "*"), ("brats", "imagesTr", "*.nii.gz")]
)
def test_pixels_are_those_of_preprocessing(tmp_path, dataset, folder, pattern):
    raw = DEMO_DATA[dataset](tmp_path / "raw", 4, 0)
    preprocess(PreprocessConfig(workspace=tmp_path, raw={dataset: raw}, size=48, slices=None), dataset)
    stored = {image.tobytes() for image in stored_images(tmp_path / "preprocessed" / f"{dataset}.h5")}
    place = next(path for path in [raw, *raw.rglob("*")] if path.is_dir() and path.name == folder)
    ready = prepared_of(place, 48)
    ours = {image.tobytes() for one in ready.values() for image in one.squares[0].pixels}
    assert stored
    assert stored <= ours


def test_a_mask_at_the_size_of_the_model_is_that_of_evaluate(tmp_path, run_predict):
    names = [str(number) for number in range(5)]
    for number, name in enumerate(names):
        pixels = derive_rng(number, "noise").integers(0, 256, (48, 48), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    made = run_predict(write_bright_model(tmp_path / "m", 48, modality="US"), tmp_path / "in", tta="flips")
    images = np.stack([np.asarray(Image.open(tmp_path / "in" / f"{name}.png")) for name in names])
    info = SetInfo("noise", "US", "ovary", 48, 255)
    cases = [CaseInfo(name, name, name, "", -1, (np.nan, np.nan), 0) for name in names]
    data = ShardDataset([CaseSet(info, cases, images, np.zeros_like(images))])
    segmenter = Segmenter("unet", {**OPTIONS, "in_channels": 1}, "cpu", "fp32", 4)
    expected = segmenter.masks(bright_weights(), data, rule=MaskRule(0.5, "flips"))
    for name, mask in zip(names, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(made.folder / f"{name}.png")) > 0, mask > 0)
        assert mask.any()


def test_a_grey_volume_has_three_equal_channels_for_a_model_of_colour(tmp_path):
    write_volume(tmp_path / "in" / "a.nii", blobs((10, 12, 3)))
    (one,) = prepared_of(tmp_path / "in", 12, 3, IntensityRule(window=(0, 100))).values()
    pixels = one.squares[0].pixels
    assert pixels.shape == (3, 12, 12, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_the_hash_of_a_series_is_of_all_of_its_files(tmp_path):
    voxels = np.arange(5 * 6 * 3, dtype=np.int16).reshape(5, 6, 3)
    write_series(tmp_path / "s", voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), "MR", "p")
    (before,) = (InputHashes().of_image(image) for image in find_inputs([tmp_path / "s"]).inputs)
    voxels[2, 2, 1] += 1
    write_series(tmp_path / "s", voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), "MR", "p")
    (after,) = (InputHashes().of_image(image) for image in find_inputs([tmp_path / "s"]).inputs)
    assert before != after


def test_a_file_with_many_images_is_hashed_once(tmp_path, monkeypatch):
    pages = [Image.fromarray(np.full((9, 9), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    hashed = []
    monkeypatch.setattr(preparing, "hash_file", lambda path: hashed.append(path) or hash_file(path))
    hashes = InputHashes()
    found = [hashes.of_image(image) for image in find_inputs([tmp_path / "a.tif"]).inputs]
    assert len(set(found)) == 3
    assert hashed == [tmp_path / "a.tif"]


def test_models_that_differ_in_the_size_only_share_one_reading(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 30), np.uint8)).save(tmp_path / "a.png")
    (image,) = find_inputs([tmp_path / "a.png"]).inputs
    read = []
    monkeypatch.setattr(preparing, "read_input", lambda *a, **k: read.append(a) or read_input(*a, **k))
    hows = [ModelPreparation(size, channels, "axial", "aligned", RULE) for size, channels in SIZES]
    found = prepare(image, "", hows, with_pictures=False)
    assert [one.pixels.shape for one in found.squares] == [(1, 16, 16), (1, 32, 32), (1, 16, 16, 3)]
    assert len(read) == 2, "once in grey, once in colour"


SIZES = ((16, 1), (32, 1), (16, 3))
