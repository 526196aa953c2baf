import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from flames_cli.demo_data.layouts import draw_brats, draw_busi, draw_otu2d, lesion_area
from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from tests.support.raw_cases import iter_raw_cases

PATIENTS = 12
FOLDERS = {"brats": "Task01_BrainTumour", "busi": "Dataset_BUSI_with_GT", "otu2d": "OTU_2d"}
DRAW: dict[str, Callable[[Path, int, int], Path]] = {
    "brats": lambda root, patients, seed: draw_brats(root, patients, seed, size=64, slices=16),
    "busi": draw_busi,
    "otu2d": draw_otu2d,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return {name: draw(root, PATIENTS, 3) for name, draw in DRAW.items()}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def cases(name, drawn):
    return list(iter_raw_cases(READERS[name], drawn[name]))


def load(path: Path) -> tuple[str, np.ndarray]:
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)


def scaled(case) -> np.ndarray:
    return np.clip((case.image.astype(float) - case.low) / (case.high - case.low), 0, 1)


def contrast(case) -> float:
    """Mean in the lesion minus the mean of the tissue in a ring around it, on the image's scale of 0 to 1."""
    image = scaled(case)
    around = ndimage.binary_dilation(case.mask, iterations=4) & ~ndimage.binary_dilation(case.mask)
    return image[case.mask > 0].mean() - image[around & (case.image > 0)].mean()


@pytest.mark.parametrize("name", DRAW)
def test_the_same_seed_gives_the_same_bytes(name, drawn, tmp_path):
    again = DRAW[name](tmp_path, PATIENTS, 3)
    assert digests(again) == digests(drawn[name])


@pytest.mark.parametrize("name", DRAW)
def test_a_patient_does_not_depend_on_how_many_are_drawn(name, drawn, tmp_path):
    few, many = digests(DRAW[name](tmp_path, 2, 3)), digests(drawn[name])
    few.pop("dataset.json", None)
    assert few.items() <= many.items()


@pytest.mark.parametrize("name", DRAW)
def test_another_seed_gives_other_patients(name, drawn, tmp_path):
    other = digests(DRAW[name](tmp_path, 1, 4))
    image = next(key for key in other if key.endswith(("imagesTr/BRATS_001.nii.gz", "(1).png", "1.JPG")))
    assert other[image] != digests(drawn[name])[image]


@pytest.mark.parametrize("name", DRAW)
def test_the_root_is_named_as_the_download(name, drawn):
    assert drawn[name].name == FOLDERS[name] == READERS[name].folder


def test_brats_has_the_layout_of_the_decathlon(drawn):
    names = [f"BRATS_{number:03d}.nii.gz" for number in range(1, PATIENTS + 1)]
    images = {path.name for path in (drawn["brats"] / "imagesTr").iterdir()}
    assert images == {*names, *(f"._{name}" for name in names)}
    assert sorted(path.name for path in (drawn["brats"] / "labelsTr").iterdir()) == names
    index = json.loads((drawn["brats"] / "dataset.json").read_text())
    assert index["training"][0] == {"image": f"./imagesTr/{names[0]}", "label": f"./labelsTr/{names[0]}"}
    assert index["numTraining"] == PATIENTS
    assert index["modality"]["0"] == "FLAIR"


def test_brats_volumes_have_two_channels_and_labels_up_to_three(drawn):
    seen = set()
    for path in (drawn["brats"] / "labelsTr").iterdir():
        image, labels = nib.load(path.parent.parent / "imagesTr" / path.name), nib.load(path)
        assert image.shape == (64, 64, 16, 2)
        assert image.get_data_dtype() == np.int16
        assert labels.get_data_dtype() == np.uint8
        assert np.allclose(image.affine, labels.affine)
        seen |= set(np.unique(np.asanyarray(labels.dataobj)).tolist())
    assert seen == {0, 1, 2, 3}


def test_every_third_brain_is_stored_as_lps(drawn):
    paths = sorted((drawn["brats"] / "imagesTr").glob("BRATS*"))
    axes = ["".join(nib.aff2axcodes(nib.load(path).affine)) for path in paths]
    assert axes == ["RAS", "RAS", "LPS"] * 4


def test_the_axes_in_the_file_leave_the_head_where_it_is(drawn):
    for path in sorted((drawn["brats"] / "imagesTr").glob("BRATS*"))[:3]:
        image = nib.as_closest_canonical(nib.load(path))
        assert np.allclose(image.affine @ [31.5, 31.5, 7.5, 1], [0, 0, 0, 1], atol=1e-3)
        centre = ndimage.center_of_mass(np.asanyarray(image.dataobj)[..., 0] > 0)
        assert np.allclose(centre, [31.5, 31.5, 7.5], atol=5)


def test_some_slices_have_tumour_and_some_have_none(drawn):
    for path in (drawn["brats"] / "labelsTr").iterdir():
        bearing = (np.asanyarray(nib.load(path).dataobj) > 0).any(axis=(0, 1))
        assert 1 <= bearing.sum() < bearing.size


def test_busi_has_the_layout_of_the_download(drawn):
    counts = {
        kind: len(list((drawn["busi"] / kind).glob("*).png"))) for kind in ("benign", "malignant", "normal")
    }
    assert counts == {"benign": 8, "malignant": 4, "normal": 4}
    for path in drawn["busi"].glob("*/*).png"):
        (image_mode, image), (mask_mode, mask) = load(path), load(path.with_name(f"{path.stem}_mask.png"))
        assert (image_mode, mask_mode) == ("RGB", "L")
        assert image.shape[:2] == mask.shape
        assert mask.shape[0] != mask.shape[1]
        assert set(np.unique(mask).tolist()) <= {0, 255}


def test_some_breasts_hold_a_second_lesion_with_its_own_mask(drawn):
    second = [load(path) for path in drawn["busi"].glob("*/*_mask_1.png")]
    assert 0 < len(second) < PATIENTS / 2
    assert all(mode == "1" and mask.any() for mode, mask in second)


def test_normal_breasts_have_empty_masks(drawn):
    masks = [load(path)[1] for path in (drawn["busi"] / "normal").glob("*_mask.png")]
    assert len(masks) == 4
    assert not any(mask.any() for mask in masks)


def test_one_malignant_image_copies_a_benign_one(drawn):
    files = digests(drawn["busi"])
    for suffix in (".png", "_mask.png"):
        assert files[f"malignant/malignant (3){suffix}"] == files[f"benign/benign (1){suffix}"]
    images = [digest for name, digest in files.items() if name.endswith(").png")]
    assert len(images) - len(set(images)) == 1


def test_few_breasts_hold_no_copy(tmp_path):
    images = [digest for name, digest in digests(draw_busi(tmp_path, 7, 3)).items() if name.endswith(").png")]
    assert len(images) == len(set(images))


def test_otu2d_has_the_layout_of_the_download(drawn):
    numbers = range(1, PATIENTS + 1)
    assert {path.name for path in (drawn["otu2d"] / "images").iterdir()} == {f"{n}.JPG" for n in numbers}
    junk = {f"{n}{suffix}" for n in (1, 2, 3) for suffix in (".PNG", "_binary_binary.PNG")}
    assert {path.name for path in (drawn["otu2d"] / "annotations").iterdir()} == junk | {
        f"{n}_binary.PNG" for n in numbers
    }
    for number in numbers:
        mode, mask = load(drawn["otu2d"] / "annotations" / f"{number}_binary.PNG")
        assert mode == "L"
        assert mask.shape == load(drawn["otu2d"] / "images" / f"{number}.JPG")[1].shape[:2]
        assert set(np.unique(mask).tolist()) <= {0, 1}


def test_only_patient_seven_has_no_ovarian_lesion(drawn):
    masks = sorted((drawn["otu2d"] / "annotations").glob("*_binary.PNG"))
    assert [path.name for path in masks if not load(path)[1].any()] == ["8_binary.PNG"]


def test_tumours_are_bright_in_mri_and_dark_in_ultrasound(drawn):
    means = {name: np.mean([contrast(case) for case in cases(name, drawn)]) for name in DRAW}
    assert means["brats"] > 0.1
    assert means["busi"] < -0.1
    assert means["otu2d"] < -0.1


@pytest.mark.parametrize("name", DRAW)
def test_lesion_areas_spread_more_than_tenfold(name, drawn):
    largest: dict[str, float] = {}
    for case in cases(name, drawn):
        largest[case.patient] = max(largest.get(case.patient, 0.0), float(case.mask.mean()))
    assert max(largest.values()) > 10 * min(largest.values())


@pytest.mark.parametrize("name", DRAW)
def test_areas_fill_their_range_evenly_on_a_log_scale(name):
    logs = np.sort(np.log([lesion_area(5, name, index) for index in range(200)]))
    assert np.ptp(logs) <= np.log(50)
    assert np.diff(logs).max() < 0.02 * np.log(50)


@pytest.mark.parametrize("name", DRAW)
def test_no_one_threshold_finds_the_tumours(name, drawn):
    scores = np.array([threshold_dice(case) for case in cases(name, drawn)])
    assert scores.mean(axis=0).max() < 0.75


def threshold_dice(case) -> list[float]:
    """Dice of the smoothed image above, then below, each of 19 levels."""
    smooth, mask = ndimage.gaussian_filter(scaled(case), 1.0), case.mask > 0
    levels = np.arange(0.05, 1.0, 0.05)
    found = [smooth > level for level in levels] + [(smooth < level) & (smooth > 0.01) for level in levels]
    return [2 * (each & mask).sum() / (each.sum() + mask.sum()) for each in found]


def test_the_smallest_volumes_still_hold_a_tumour(tmp_path):
    folder = draw_brats(tmp_path, 6, 0, size=32, slices=8)
    for path in (folder / "labelsTr").iterdir():
        assert np.asanyarray(nib.load(path).dataobj).any()


@pytest.mark.parametrize(
    ("draw", "options", "named"),
    [
        (draw_brats, {"patients": 0}, "patients is 0"),
        (draw_brats, {"patients": 1, "size": 16}, "size is 16"),
        (draw_brats, {"patients": 1, "slices": 2}, "slices is 2"),
        (draw_busi, {"patients": 1, "normals": -1}, "normals is -1"),
        (draw_otu2d, {"patients": 0}, "patients is 0"),
    ],
)
def test_too_little_to_draw_is_rejected_before_anything_is_written(draw, options, named, tmp_path):
    with pytest.raises(FlamesError, match=f"{named}, expected at least"):
        draw(tmp_path, seed=1, **options)
    assert not list(tmp_path.iterdir())
