import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.scores.metrics import count_pixels, sum_counts
from flames_cli.core.scores.surfaces import surface_dice, surface_distances
from flames_cli.errors import FlamesError
from flames_cli.plugins import FILES_VARIABLE, use_files
from flames_cli.stages.predict.truth import score, summarise_truth
from flames_cli.store.prediction_folder import PredictedCase
from tests.stages.predict.conftest import blobs, write_still, write_volume
from tests.support.asserts import read_csv
from tests.support.bright_model import write_bright_model

SPACING = (1.0, 2.0, 3.0)


def write_mask(path, mask, like):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), nib.load(like).affine), path)


def write_png_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_a_volume_is_scored_in_its_own_geometry(tmp_path, run_predict, plane):
    mask = blobs((12, 10, 11))
    truth = np.roll(mask, 1, axis=1)
    write_volume(tmp_path / "in" / "a.nii.gz", mask, "LPS", SPACING)
    write_mask(tmp_path / "masks" / "a.nii.gz", truth, tmp_path / "in" / "a.nii.gz")
    model = write_bright_model(tmp_path / "m", 12 if plane == "axial" else 11, plane=plane)
    (case,) = run_predict(model, tmp_path / "in", truth=str(tmp_path / "masks")).cases
    counts = sum_counts(count_pixels(*pair) for pair in zip(mask, truth, strict=True))
    distances = surface_distances(mask, truth, SPACING)
    found = case.truth
    assert (found.tp, found.fp, found.fn) == (
        counts.true_positive,
        counts.false_positive,
        counts.false_negative,
    )
    assert found.dice == pytest.approx(counts.dice())
    assert found.hd95_mm == pytest.approx(distances.hd95)
    assert found.assd_mm == pytest.approx(distances.assd)
    assert found.nsd_2mm == pytest.approx(surface_dice(mask, truth, SPACING, 2.0), abs=1e-6)
    assert found.true_ml == pytest.approx(truth.sum() * 6 / 1000)
    assert found.volume_error_ml == pytest.approx(counts.volume_error_ml(6))
    (row,) = read_csv(tmp_path / "out" / "cases.csv")
    assert float(row["dice"]) == found.dice


def test_the_masks_of_a_manifest_score_and_a_row_without_a_mask_has_no_score(tmp_path, run_predict):
    for name in ("a", "b", "c"):
        write_still(tmp_path / f"{name}.png", blobs((16, 16)))
        write_png_mask(tmp_path / f"{name}-mask.png", blobs((16, 16)))
    (tmp_path / "list.csv").write_text(
        "image,mask,patient_id,modality,organ\n"
        "a.png,a-mask.png,p1,US,breast\nb.png,b-mask.png,p2,US,breast\nc.png,none,p2,US,breast\n"
    )
    model = write_bright_model(tmp_path / "m", 16, modality="US")
    result = run_predict(model, tmp_path / "list.csv", truth="")
    assert [case.truth.dice for case in result.cases][:2] == [1.0, 1.0]
    assert result.cases[2].truth.dice < 1e-6  # the manifest states that there is no lesion
    assert (result.truth.n, result.truth.n_patients) == (3, 2)
    assert result.truth.means["dice"].mean == pytest.approx(2 / 3)
    assert result.truth.means["dice"].low < result.truth.means["dice"].high


def test_one_file_scores_one_image_only(tmp_path, run_predict):
    mask = blobs((16, 16))
    for name in ("a", "b"):
        write_still(tmp_path / "in" / f"{name}.png", mask)
    truth = write_png_mask(tmp_path / "truth.png", mask)
    model = write_bright_model(tmp_path / "m", 16, modality="US")
    (case,) = run_predict(model, tmp_path / "in" / "a.png", truth=str(truth)).cases
    assert (case.truth.dice, case.truth.hd95_mm, case.truth.lesion_f1) == (1.0, None, 1.0)
    with pytest.raises(FlamesError, match="one mask for 2 images"):
        run_predict(model, tmp_path / "in", truth=str(truth), out=tmp_path / "o2")


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("", "no input has a mask in a manifest"),
        ("nowhere", "no mask .*nowhere"),
        ("in", "has the name of an"),
    ],
)
def test_a_truth_that_is_not_there_is_an_error(tmp_path, run_predict, truth, message):
    for name in ("a", "b"):
        write_still(tmp_path / "images" / f"{name}.png", blobs((16, 16)))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.png").write_bytes(b"")
    model = write_bright_model(tmp_path / "m", 16, modality="US")
    with pytest.raises(FlamesError, match=message):
        run_predict(model, tmp_path / "images", truth=str(tmp_path / truth) if truth else "")


def test_a_bad_true_mask_fails_its_image_only(tmp_path, run_predict):
    for name in ("a", "b"):
        write_still(tmp_path / "in" / f"{name}.png", blobs((16, 16)))
        write_png_mask(tmp_path / "masks" / f"{name}.png", blobs((16, 16)))
    write_png_mask(tmp_path / "masks" / "b.png", blobs((8, 16)))
    model = write_bright_model(tmp_path / "m", 16, modality="US")
    result = run_predict(model, tmp_path / "in", truth=str(tmp_path / "masks"))
    assert [case.status for case in result.cases] == ["done", "failed"]


def test_empty_masks_have_no_distance():
    empty, full = np.zeros((2, 6, 6), np.uint8), np.ones((2, 6, 6), np.uint8)
    missed = score(empty, full, (1.0, 1.0, 1.0), is_volume=True)
    assert (missed.hd95_mm, missed.assd_mm, missed.nsd_2mm, missed.precision) == (None, None, 0.0, None)
    both = score(empty, empty, (1.0, 1.0, 1.0), is_volume=True)
    assert (both.dice, both.hd95_mm, both.lesion_f1, both.sensitivity) == (1.0, 0.0, None, None)


def test_images_without_a_patient_count_one_each():
    scored = score(np.ones((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8), (1.0, 1.0), is_volume=False)
    cases = [PredictedCase(str(number), "", "", "done", truth=scored) for number in range(3)]
    found = summarise_truth([*cases, PredictedCase("x", "", "", "done")])
    assert (found.n, found.n_patients, found.means["dice"].n_patients) == (3, 0, 3)
    assert summarise_truth([]) is None


@pytest.fixture
def volume_of(tmp_path, monkeypatch):
    """A plug-in file with a metric in mm³, and one that fails."""
    monkeypatch.setenv(FILES_VARIABLE, "")
    path = tmp_path / "own_metrics.py"
    path.write_text(
        "import math\n"
        "def shared(predicted, truth, spacing_mm):\n"
        "    return float((predicted & truth).sum()) * math.prod(spacing_mm)\n"
        "def broken(predicted, truth, spacing_mm):\n    raise ValueError('no')\n"
        "METRICS = {'shared': shared, 'broken': broken}\n",
        encoding="utf-8",
    )
    use_files([path])


def test_a_metric_of_a_plug_in_is_computed_in_the_geometry_of_the_image(tmp_path, run_predict, volume_of):
    mask = blobs((12, 10, 11))
    truth = np.roll(mask, 1, axis=1)
    write_volume(tmp_path / "in" / "a.nii.gz", mask, "LPS", SPACING)
    write_mask(tmp_path / "masks" / "a.nii.gz", truth, tmp_path / "in" / "a.nii.gz")
    model = write_bright_model(tmp_path / "m", 12)
    made = run_predict(model, tmp_path / "in", truth=str(tmp_path / "masks"), metrics=("shared",))
    expected = pytest.approx((mask & truth).sum() * 6)
    assert made.cases[0].truth.metrics["shared"] == expected
    assert made.truth.means["shared"].mean == expected
    (row,) = read_csv(tmp_path / "out" / "cases.csv")
    assert float(row["metric_shared"]) == expected
    again = run_predict(model, tmp_path / "in", truth=str(tmp_path / "masks"), metrics=("shared",))
    assert (again.skipped, again.cases[0].truth.metrics["shared"]) == (1, expected)
    with pytest.raises(
        FlamesError, match=r"a: metric 'broken' of own_metrics.py sha256:\w+ fails for case a"
    ):
        run_predict(
            model, tmp_path / "in", truth=str(tmp_path / "masks"), metrics=("broken",), out=tmp_path / "o2"
        )


def test_a_metric_needs_true_masks(tmp_path, run_predict, volume_of):
    write_still(tmp_path / "a.png", blobs((16, 16)))
    with pytest.raises(FlamesError, match="got --metric shared without --truth"):
        run_predict(write_bright_model(tmp_path / "m", 16), tmp_path / "a.png", metrics=("shared",))
