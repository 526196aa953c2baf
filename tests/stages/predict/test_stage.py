import json
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.models import Seen, read_model_info
from flames_cli.store.prediction_folder import read_prediction_file
from tests.stages.predict.conftest import blobs, write_still, write_volume
from tests.support.asserts import read_csv, snapshot
from tests.support.bright_model import probability_of, write_bright_model
from tests.support.phantoms import dicom_bytes
from tests.support.phantoms.dicom import write_series

AXES = ("RAS", "LPI", "LPS", "PIR", "SAL", "ASL", "IRP")
PLANES = ("axial", "coronal", "sagittal")


@pytest.fixture
def model(tmp_path):
    return write_bright_model(tmp_path / "bright", 16, modality="US")


def mask_of(path):
    return np.asarray(Image.open(path)) > 0


def volume_of(path):
    image = nib.load(path)
    return np.asarray(image.dataobj) > 0, image.affine


@pytest.mark.parametrize("axes", AXES)
def test_a_volume_of_any_orientation_comes_back_voxel_by_voxel_in_every_plane(tmp_path, run_predict, axes):
    mask = blobs((9, 12, 7), seed=3)
    affine = write_volume(tmp_path / "in" / "case.nii.gz", mask, axes)
    for plane in PLANES:
        ras = nib.orientations.io_orientation(affine)[:, 0].astype(int)
        in_ras = [mask.shape[list(ras).index(axis)] for axis in range(3)]
        normal = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
        side = max(n for axis, n in enumerate(in_ras) if axis != normal)
        made = write_bright_model(tmp_path / f"{plane}-{axes}", side, plane=plane)
        result = run_predict(made, tmp_path / "in", out=tmp_path / f"out-{plane}")
        found, placed = volume_of(result.folder / "case.nii.gz")
        np.testing.assert_array_equal(found, mask)
        np.testing.assert_allclose(placed, affine)
        assert result.cases[0].pixels == mask.sum()
        assert result.cases[0].volume_ml == pytest.approx(mask.sum() * 6 / 1000)
        assert result.cases[0].slices == in_ras[normal]


def test_a_volume_of_another_size_than_the_model_comes_back_in_its_place(tmp_path, run_predict):
    x, y, z = np.ogrid[:60, :80, :6]
    mask = ((x - 20) ** 2 + (y - 55) ** 2 < 14**2) & (z > 1) & (z < 5)
    write_volume(tmp_path / "case.nii", mask, "LPS")
    model = write_bright_model(tmp_path / "m", 32)
    result = run_predict(model, tmp_path / "case.nii")
    found, _ = volume_of(result.folder / "case.nii.gz")
    assert found.shape == mask.shape
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.95
    middles = [np.argwhere(one).mean(axis=0) for one in (found, mask)]
    np.testing.assert_allclose(*middles, atol=0.5)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_still_comes_back_pixel_by_pixel_by_a_model_of_grey_or_colour(
    tmp_path, run_predict, colour, channels
):
    mask = blobs((11, 16))
    write_still(tmp_path / "in" / "a.png", mask, colour)
    model = write_bright_model(tmp_path / "m", 16, channels, "US")
    result = run_predict(model, tmp_path / "in")
    np.testing.assert_array_equal(mask_of(result.folder / "a.png"), mask)


def test_stills_of_many_sizes_and_formats_keep_their_names_and_folders(tmp_path, run_predict, model):
    names = {"a.png": (16, 9), "deep/b.bmp": (5, 16), "deep/c.tif": (16, 16), "deep/a.png": (12, 16)}
    masks = {name: blobs(shape, seed) for seed, (name, shape) in enumerate(names.items())}
    for name, mask in masks.items():
        write_still(tmp_path / "in" / name, mask)
    result = run_predict(model, tmp_path / "in", batch_size=3)
    assert [case.status for case in result.cases] == ["done"] * 4
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask_of(result.folder / f"{name.split('.')[0]}.png"), mask)


def test_a_dicom_series_comes_back_as_a_segmentation_of_its_voxels(tmp_path, run_predict):
    pytest.importorskip("highdicom")
    mask = blobs((10, 12, 5), seed=1)
    affine = np.diag([-0.5, -0.5, 4.0, 1.0])
    images = write_series(tmp_path / "in" / "s1", np.where(mask, 90, 10).astype(np.int16), affine, "MR", "p")
    made = run_predict(write_bright_model(tmp_path / "m", 12), tmp_path / "in", probabilities=True)
    (case,) = made.cases
    assert (case.pixels, case.modality, case.mask) == (mask.sum(), "MRI", "s1.dcm")
    assert case.volume_ml == pytest.approx(mask.sum() / 1000)
    found = pydicom.dcmread(made.folder / case.mask)
    places = {str(image.SOPInstanceUID): number for number, image in enumerate(images)}
    for frame, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_array_equal(pixels > 0, mask[:, :, places[str(source)]].T)
    probabilities, _ = volume_of(made.folder / "probabilities" / "s1.nii.gz")
    assert probabilities.shape == mask.shape


def test_a_single_ultrasound_image_of_dicom_comes_back_as_a_segmentation(tmp_path, run_predict):
    pytest.importorskip("highdicom")
    mask = blobs((8, 12), seed=2)
    (tmp_path / "us").mkdir()
    pixels = np.where(mask, 200, 30).astype(np.uint8).tobytes()
    elements = dicom_bytes.image("US", mask.shape, pixels, spacing=["0.2", "0.2"])
    dicom_bytes.write(tmp_path / "us" / "probe.dcm", elements)
    made = run_predict(write_bright_model(tmp_path / "m", 12, modality="US"), tmp_path / "us")
    (case,) = made.cases
    np.testing.assert_array_equal(pydicom.dcmread(made.folder / case.mask).pixel_array > 0, mask)
    scored = run_predict(
        tmp_path / "m", tmp_path / "us", out=tmp_path / "o2", truth=str(made.folder / case.mask)
    )
    assert scored.cases[0].truth.dice == 1


def test_probabilities_are_those_of_the_model(tmp_path, run_predict, model):
    values = np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    result = run_predict(model, tmp_path / "a.png", probabilities=True)
    stored = np.asarray(Image.open(result.folder / "probabilities" / "a.png")) / 65535
    expected = probability_of(values / 255)
    np.testing.assert_allclose(stored, expected, atol=2e-5)
    case = result.cases[0]
    assert case.max_probability == pytest.approx(expected.max(), abs=1e-5)
    assert case.mean_probability == pytest.approx(expected[expected > 0.5].mean(), abs=1e-5)


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_the_mask_is_what_is_above_the_threshold(tmp_path, run_predict, model, threshold):
    values = np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    result = run_predict(model, tmp_path / "a.png", threshold=threshold)
    np.testing.assert_array_equal(mask_of(result.folder / "a.png"), probability_of(values / 255) > threshold)


def test_the_threshold_is_the_model_s_own_by_default(tmp_path, run_predict):
    values = np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    model = write_bright_model(tmp_path / "m", 16, threshold=0.8)
    result = run_predict(model, tmp_path / "a.png")
    np.testing.assert_array_equal(mask_of(result.folder / "a.png"), probability_of(values / 255) > 0.8)
    assert result.options["threshold"] == 0.8


def test_flips_change_nothing_for_a_model_without_direction(tmp_path, run_predict, model):
    mask = blobs((16, 13))
    write_still(tmp_path / "a.png", mask)
    result = run_predict(model, tmp_path / "a.png", tta="flips")
    np.testing.assert_array_equal(mask_of(result.folder / "a.png"), mask)


def test_only_the_largest_part_of_a_volume_stays_in_3d(tmp_path, run_predict):
    mask = np.zeros((12, 12, 6), bool)
    mask[1:3, 1:3, 0:6] = True  # 24 voxels over all slices
    mask[6:10, 6:10, 2] = True  # 16 voxels: the largest part of its slice
    write_volume(tmp_path / "a.nii", mask)
    result = run_predict(write_bright_model(tmp_path / "m", 12), tmp_path / "a.nii", postprocess="largest")
    found, _ = volume_of(result.folder / "a.nii.gz")
    mask[6:10] = False
    np.testing.assert_array_equal(found, mask)
    case = result.cases[0]
    assert (case.n_lesions, case.pixels) == (1, 24)
    assert case.mean_probability == pytest.approx(float(probability_of(0.9)), abs=1e-3)


def test_an_ensemble_takes_the_mean_of_models_of_other_sizes(tmp_path, run_predict):
    values = np.full((16, 16), 20, np.uint8)
    values[4:12, 4:12] = 160  # 0.627
    Image.fromarray(values).save(tmp_path / "a.png")
    models = [
        write_bright_model(tmp_path / f"m{size}", size, modality="US", gain=gain)
        for size, gain in ((16, 8.0), (32, -2.0))
    ]
    result = run_predict(models, tmp_path / "a.png", probabilities=True)
    stored = np.asarray(Image.open(result.folder / "probabilities" / "a.png")) / 65535
    inside = 160 / 255
    expected = (probability_of(inside) + probability_of(inside, -2.0)) / 2
    assert stored[7, 7] == pytest.approx(expected, abs=1e-3)
    assert result.models == ("m16", "m32")
    assert list(read_prediction_file(result.folder).models) == ["m16", "m32"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "CT"}, "the modality MRI and model m2 CT"),
        ({"channels": 3}, "the channels 1 and model m2 3"),
        ({"plane": "coronal"}, "the plane axial and model m2 coronal"),
    ],
)
def test_models_of_other_images_are_no_ensemble(tmp_path, run_predict, change, message):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    models = [write_bright_model(tmp_path / "m1", 16), write_bright_model(tmp_path / "m2", 16, **change)]
    with pytest.raises(FlamesError, match=message):
        run_predict(models, tmp_path / "a.png")


def test_thresholds_that_differ_need_one_for_the_ensemble(tmp_path, run_predict):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    models = [
        write_bright_model(tmp_path / f"m{number}", 16, threshold=number / 10, gain=number)
        for number in (4, 6)
    ]
    with pytest.raises(FlamesError, match=r"thresholds 0\.4, 0\.6, expected one"):
        run_predict(models, tmp_path / "a.png")
    assert run_predict(models, tmp_path / "a.png", threshold=0.5).options["threshold"] == 0.5


def test_a_model_twice_is_no_ensemble(run_predict, model, tmp_path):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    with pytest.raises(FlamesError, match="named twice"):
        run_predict([model, model], tmp_path / "a.png")


@pytest.mark.parametrize("rules", [(), (IntensityRule(), IntensityRule(window=(0, 50)))])
def test_a_model_without_one_rule_needs_it_for_volumes_only(tmp_path, run_predict, rules):
    mask = blobs((12, 12, 4))
    write_volume(tmp_path / "a.nii", mask)
    write_still(tmp_path / "b.png", blobs((12, 12)))
    model = write_bright_model(tmp_path / "m", 12, rules=rules)
    with pytest.raises(FlamesError, match=r"states .* for the intensities of volumes, expected one"):
        run_predict(model, tmp_path / "a.nii")
    among = run_predict(model, tmp_path / "a.nii", tmp_path / "b.png")
    assert [case.status for case in among.cases] == ["failed", "done"]
    result = run_predict(model, tmp_path / "a.nii", window=(0, 100), out=tmp_path / "o2")
    np.testing.assert_array_equal(volume_of(result.folder / "a.nii.gz")[0], mask)


def test_images_of_sixteen_bits_need_a_rule_too(tmp_path, run_predict):
    Image.fromarray(np.where(blobs((12, 12)), 90, 10).astype(np.uint16)).save(tmp_path / "a.png")
    write_still(tmp_path / "b.png", blobs((12, 12)))
    model = write_bright_model(tmp_path / "m", 12, rules=())
    result = run_predict(model, tmp_path / "a.png", tmp_path / "b.png")
    assert [case.status for case in result.cases] == ["failed", "done"]
    assert "pass --window LOW,HIGH or --percentile" in result.cases[0].reason


def test_a_bad_file_does_not_end_the_others(tmp_path, run_predict, model):
    for name in ("a", "c"):
        write_still(tmp_path / "in" / f"{name}.png", blobs((16, 16)))
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result = run_predict(model, tmp_path / "in")
    assert [(case.input, case.status) for case in result.cases] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "done"),
    ]
    rows = {row["input"]: row for row in read_csv(result.folder / "cases.csv")}
    assert rows["b"]["status"] == "failed"
    assert rows["b"]["reason"]
    assert list(read_prediction_file(result.folder).inputs) == ["a", "c"]
    write_still(tmp_path / "in" / "b.png", blobs((16, 16)))
    again = run_predict(model, tmp_path / "in")
    assert (again.skipped, [case.status for case in again.cases]) == (2, ["done"] * 3)


def test_a_link_to_nothing_fails_with_a_reason_in_words(tmp_path, run_predict, model):
    write_still(tmp_path / "in" / "a.png", blobs((16, 16)))
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "gone.png")
    (failed,) = run_predict(model, tmp_path / "in").failed
    assert failed.reason == "it cannot be read (No such file or directory); check the file and its rights"


def test_only_bad_files_are_an_error(tmp_path, run_predict, model):
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(FlamesError, match="none of the 1 inputs could be predicted"):
        run_predict(model, tmp_path / "b.png")


def test_what_is_done_is_skipped_and_what_has_changed_is_predicted_again(tmp_path, run_predict, model):
    for name in ("a", "b"):
        write_still(tmp_path / "in" / f"{name}.png", blobs((16, 16)))
    first = run_predict(model, tmp_path / "in")
    before = (first.folder / "a.png").stat().st_mtime_ns
    changed = blobs((16, 16), seed=5)
    write_still(tmp_path / "in" / "b.png", changed)
    again = run_predict(model, tmp_path / "in")
    assert again.skipped == 1
    assert (first.folder / "a.png").stat().st_mtime_ns == before
    np.testing.assert_array_equal(mask_of(first.folder / "b.png"), changed)
    np.testing.assert_array_equal(mask_of(first.folder / "b-old-1.png"), blobs((16, 16)))


def test_a_true_mask_that_has_changed_scores_the_image_again(tmp_path, run_predict, model):
    mask = blobs((16, 16))
    write_still(tmp_path / "in" / "a.png", mask)
    truth = tmp_path / "t" / "a.png"
    truth.parent.mkdir()
    Image.fromarray(np.where(mask, 0, 255).astype(np.uint8)).save(truth)
    found = run_predict(model, tmp_path / "in", truth=str(truth.parent))
    assert found.cases[0].truth.dice == pytest.approx(0, abs=1e-6)
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(truth)
    found = run_predict(model, tmp_path / "in", truth=str(truth.parent))
    assert (found.skipped, found.cases[0].truth.dice) == (0, 1)
    assert run_predict(model, tmp_path / "in", truth=str(truth.parent)).skipped == 1


def test_an_image_that_was_done_has_the_patient_of_the_manifest_as_it_is_now(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    for patient in ("p", "q"):
        (tmp_path / "m.csv").write_text(f"image,patient_id\na.png,{patient}\n", encoding="utf-8")
        found = run_predict(model, tmp_path / "m.csv")
        assert read_csv(tmp_path / "out" / "cases.csv")[0]["patient"] == patient
    assert found.skipped == 1


def test_the_mask_of_an_earlier_image_is_renamed_if_the_new_one_fails(tmp_path, run_predict, model):
    write_volume(tmp_path / "in" / "a.nii", blobs((16, 16, 2)))
    write_still(tmp_path / "in" / "b.png", blobs((16, 16)))
    run_predict(model, tmp_path / "in")
    (tmp_path / "in" / "a.nii").write_bytes(b"no image")
    assert [case.status for case in run_predict(model, tmp_path / "in").cases] == ["failed", "done"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a-old-1.nii.gz"]


def test_the_mask_is_exactly_the_written_probabilities_above_the_threshold(tmp_path, run_predict):
    """Both are of the same precision, also between the pixels of the model."""
    write_volume(tmp_path / "a.nii", blobs((37, 41, 3)))
    model = write_bright_model(tmp_path / "m", 12)
    found = run_predict(model, tmp_path / "a.nii", probabilities=True)
    values = np.asarray(nib.load(found.folder / "probabilities" / "a.nii.gz").dataobj)
    middle = float(np.sort(values[values < 0.9].ravel())[-50])
    found = run_predict(model, tmp_path / "a.nii", probabilities=True, threshold=middle)
    np.testing.assert_array_equal(volume_of(found.folder / "a.nii.gz")[0] > 0, values > np.float32(middle))


def test_one_size_of_all_training_images_has_a_margin(tmp_path, run_predict):
    """A header has 1 mm as 1.00001 mm."""
    seen = replace(SEEN, rows=(16.0, 16.0), columns=(16.0, 16.0), pixel_mm=(1.0, 1.0))
    model = write_bright_model(tmp_path / "m", 16, seen=seen)
    mask = np.repeat(blobs((16, 16))[..., None], 3, axis=2)
    write_volume(tmp_path / "in" / "same.nii", mask, spacing=(1.00001, 1.00001, 3))
    write_volume(tmp_path / "in" / "wide.nii", mask, spacing=(1.1, 1.1, 3))
    found = {case.input: case.warnings for case in run_predict(model, tmp_path / "in").cases}
    assert found == {"same": (), "wide": ("pixels of 1.1 mm, training images had 1 mm",)}


def test_other_options_put_the_earlier_folder_aside(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    before = snapshot(run_predict(model, tmp_path / "a.png").folder)
    made = run_predict(model, tmp_path / "a.png", threshold=0.6)
    assert made.aside == "out-old-1"
    assert snapshot(tmp_path / "out-old-1") == before
    assert made.skipped == 0


def test_a_folder_of_other_files_is_left_alone(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FlamesError, match=r"has files and no prediction\.json"):
        run_predict(model, tmp_path / "a.png")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("torn", [b"", b'{"input": "c", "sta'])
def test_a_stopped_command_continues_and_ends_with_the_same_files(
    tmp_path, run_predict, model, monkeypatch, torn
):
    for number in range(6):
        write_still(tmp_path / "in" / f"{number}.png", blobs((16, 16), number))
    whole = run_predict(model, tmp_path / "in", out=tmp_path / "whole", batch_size=2)
    done = []

    def stop(folder, case):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(case.input)
        append(folder, case)

    from flames_cli.stages.predict import files

    append = files.append_case
    monkeypatch.setattr(files, "append_case", stop)
    with pytest.raises(KeyboardInterrupt):
        run_predict(model, tmp_path / "in", batch_size=2)
    monkeypatch.undo()
    with (tmp_path / "out" / "cases.jsonl").open("ab") as file:
        file.write(torn)
    made = run_predict(model, tmp_path / "in", batch_size=2)
    assert made.skipped == 3
    names = sorted(path.name for path in whole.folder.glob("*.png"))
    assert names == sorted(path.name for path in made.folder.glob("*.png"))
    assert all((made.folder / name).read_bytes() == (whole.folder / name).read_bytes() for name in names)
    ours, theirs = (
        [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in read_csv(one / "cases.csv")
        ]
        for one in (made.folder, whole.folder)
    )
    assert ours == theirs


def test_the_batch_size_and_threads_change_no_mask(tmp_path, run_predict, model):
    for number in range(7):
        write_still(tmp_path / "in" / f"{number}.png", blobs((14, 16), number))
    for number, (batch_size, workers) in enumerate(product((1, 64), (1, 3))):
        made = run_predict(
            model, tmp_path / "in", out=tmp_path / f"o{number}", batch_size=batch_size, workers=workers
        )
        assert [case.input for case in made.cases] == [str(name) for name in range(7)]
        for name in range(7):
            np.testing.assert_array_equal(mask_of(made.folder / f"{name}.png"), blobs((14, 16), name))


def test_the_measures_of_a_still_are_in_pixels_without_a_spacing(tmp_path, run_predict, model):
    mask = np.zeros((16, 16), bool)
    mask[2, 3:9] = mask[10:12, 10:12] = True
    write_still(tmp_path / "a.png", mask)
    (case,) = run_predict(model, tmp_path / "a.png").cases
    assert (case.pixels, case.n_lesions, case.area_mm2, case.volume_ml) == (10, 2, None, None)
    assert case.largest_diameter_px == pytest.approx(np.hypot(6, 1))
    (row,) = read_csv(tmp_path / "out" / "cases.csv")
    assert (row["area_mm2"], row["largest_diameter_mm"], row["volume_ml"]) == ("", "", "")


def test_the_measures_of_a_volume_are_in_ml_and_mm(tmp_path, run_predict):
    mask = np.zeros((12, 12, 5), bool)
    mask[2:4, 2:6, 1:3] = True
    write_volume(tmp_path / "a.nii", mask)  # voxels of 1 × 2 × 3 mm
    (case,) = run_predict(write_bright_model(tmp_path / "m", 12), tmp_path / "a.nii").cases
    assert case.volume_ml == pytest.approx(16 * 6 / 1000)
    assert case.largest_diameter_mm == pytest.approx(np.sqrt(2**2 + 8**2 + 6**2))
    assert (case.largest_diameter_px, case.area_mm2, case.slices) == (None, None, 5)


def test_an_empty_mask_has_no_diameter_and_no_mean_probability(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", np.zeros((16, 16), bool))
    (case,) = run_predict(model, tmp_path / "a.png").cases
    assert (case.pixels, case.n_lesions, case.mean_probability, case.largest_diameter_px) == (
        0,
        0,
        None,
        None,
    )
    assert 0 < case.max_probability < 0.5


SEEN = Seen(10, (14.0, 18.0), (14.0, 18.0), (0.2, 0.6), (0.2, 0.5), (0.0, 0.1))


def test_images_unlike_the_training_images_get_a_warning_each(tmp_path, run_predict):
    model = write_bright_model(tmp_path / "m", 16, modality="US", seen=SEEN)
    write_still(tmp_path / "in" / "like.png", blobs((16, 16)))
    write_still(tmp_path / "in" / "wide.png", blobs((16, 64)))
    write_still(tmp_path / "in" / "white.png", np.ones((16, 16), bool))
    found = {case.input: case.warnings for case in run_predict(model, tmp_path / "in").cases}
    assert found["like"] == ()
    assert "16 rows and 64 columns, training images had 14 to 18 rows and 14 to 18 columns" in found["wide"]
    assert [line.split(" 0.")[0] for line in found["white"]] == [
        "mean intensity",
        "contrast (standard deviation)",
    ]


@pytest.mark.parametrize(("pixel", "warned"), [(2.0357, False), (2.1, True), (1.9, True)])
def test_a_pixel_of_the_only_size_of_the_training_images_gets_no_warning(
    tmp_path, run_predict, pixel, warned
):
    write_volume(tmp_path / "a.nii", blobs((16, 16, 3)), spacing=(pixel, pixel, 3.0))
    model = write_bright_model(tmp_path / "m", 16, seen=replace(SEEN, pixel_mm=(2.036, 2.036)))
    (case,) = run_predict(model, tmp_path / "a.nii").cases
    assert any("pixels of" in line for line in case.warnings) == warned


def test_a_volume_with_black_slices_is_judged_by_the_others(tmp_path, run_predict):
    mask = np.zeros((16, 16, 9), bool)
    mask[3:13, 3:13, 3:6] = True
    path = tmp_path / "a.nii"
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    values = np.zeros(mask.shape, np.int16)
    values[:, :, 3:6] = np.where(mask[:, :, 3:6], 90, 10)
    nib.save(nib.Nifti1Image(values, affine), path)
    model = write_bright_model(tmp_path / "m", 16, seen=SEEN)
    assert run_predict(model, path).cases[0].warnings == ()


def test_a_stated_modality_that_is_another_fails_unless_it_is_allowed(tmp_path, run_predict):
    write_volume(tmp_path / "ct.nii", blobs((12, 12, 3)))
    write_volume(tmp_path / "mri.nii", blobs((12, 12, 3), 1))
    (tmp_path / "list.csv").write_text("image,modality\nct.nii,CT\nmri.nii,MRI\n")
    model = write_bright_model(tmp_path / "m", 12)
    result = run_predict(model, tmp_path / "list.csv")
    assert [case.status for case in result.cases] == ["failed", "done"]
    assert "it is CT, and model m is for MRI" in result.cases[0].reason
    allowed = run_predict(model, tmp_path / "list.csv", any_modality=True)
    assert allowed.cases[0].warnings == ("modality CT, the model is for MRI",)
    assert allowed.cases[1].warnings == ()


def test_columns_of_a_manifest_are_kept(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    (tmp_path / "list.csv").write_text("image,patient_id,scanner\na.png,p1,old\n")
    result = run_predict(model, tmp_path / "list.csv", keep_columns=["scanner"])
    (row,) = read_csv(result.folder / "cases.csv")
    assert (row["patient"], row["extra_scanner"]) == ("p1", "old")


def test_the_models_of_a_run_predict_without_an_export(trained, run_predict, tmp_path):
    from flames_cli.config import ExportConfig
    from flames_cli.stages.export.stage import export

    write_still(tmp_path / "a.png", blobs((30, 40)))
    options = {"workspace": trained, "run": "flames", "probabilities": True}
    by_run = run_predict([], tmp_path / "a.png", client="busi", **options)
    exported = export(ExportConfig(workspace=trained, run="flames", model="client:busi"))
    by_folder = run_predict(
        exported.info.name, tmp_path / "a.png", workspace=trained, out=tmp_path / "o2", probabilities=True
    )
    files = [one.folder / "probabilities" / "a.png" for one in (by_run, by_folder)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert run_predict([], tmp_path / "a.png", modality="US", out=tmp_path / "o3", **options).cases


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": []}, "neither --model nor a run"),
        ({"run": "flames"}, "both --model and a run"),
        ({"models": [], "run": "flames"}, "not exactly one of --client and --modality"),
        ({"models": [], "client": "a", "modality": "US"}, "not exactly one of --client and --modality"),
    ],
)
def test_one_kind_of_model_is_named(tmp_path, run_predict, model, options, message):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    with pytest.raises(FlamesError, match=message):
        run_predict(model, tmp_path / "a.png", **options)


def test_a_model_that_is_not_there_is_named_with_those_that_are(tmp_path, run_predict):
    write_bright_model(tmp_path / "ws" / "models" / "mine", 16)
    write_still(tmp_path / "a.png", blobs((16, 16)))
    with pytest.raises(MissingArtifact, match=r"no model 'other'.*\(mine\)"):
        run_predict("other", tmp_path / "a.png")
    result = run_predict("mine", tmp_path / "a.png", out=None)
    assert result.folder == tmp_path / "ws" / "predictions" / "mine"


def test_no_image_is_an_error(run_predict, model):
    with pytest.raises(FlamesError, match="got no image"):
        run_predict(model)


def test_the_json_of_a_result_can_be_written(tmp_path, run_predict, model):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    found = json.loads(json.dumps(run_predict(model, tmp_path / "a.png").as_json(), allow_nan=False))
    assert (found["done"], found["failed"], found["cases"][0]["input"]) == (1, 0, "a")
    assert read_model_info(model).sha256 == next(iter(read_prediction_file(tmp_path / "out").models.values()))


def test_black_slices_are_computed_once_and_have_the_mask_of_a_black_image(
    tmp_path, run_predict, monkeypatch
):
    values = np.zeros((16, 16, 9), np.int16)
    values[:, :, 4] = np.where(blobs((16, 16)), 90, 10)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    seen = []
    from flames_cli.learn.use import OpenModel

    real = OpenModel.probabilities
    monkeypatch.setattr(
        OpenModel,
        "probabilities",
        lambda self, images, tta: seen.append(len(images)) or real(self, images, tta),
    )
    model = write_bright_model(tmp_path / "m", 16)
    result = run_predict(model, tmp_path / "a.nii", probabilities=True, threshold=0.01)
    assert seen == [2]
    stored = nib.load(result.folder / "probabilities" / "a.nii.gz").get_fdata()
    black = np.delete(stored, 4, axis=2)
    np.testing.assert_allclose(black, float(probability_of(0.0)), atol=1e-5)
    assert volume_of(result.folder / "a.nii.gz")[0][:, :, 4].all()
