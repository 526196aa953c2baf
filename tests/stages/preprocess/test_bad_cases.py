"""Preprocessing of damaged raw data: every bad case is named and counted, and none is kept."""

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.errors import FlamesError
from flames_cli.readers.formats.png import SIGNATURE
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.asserts import results_in
from tests.support.datasets import private_rows, reveal_cases
from tests.support.raw_cases import count_listed

Damage = Callable[[Path], None]


def run(folder: Path, dataset: str, raw: Path, skip_bad: bool = False):
    config = PreprocessConfig(workspace=folder, raw={dataset: raw}, size=32, skip_bad=skip_bad)
    (report,) = preprocess(config, dataset)
    return report


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x20
    path.write_bytes(content)


def flip_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 0x01
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("<html>404: not found</html>\n")


def on_volume(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(path: Path) -> None:
        image = nib.load(path)
        nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine), path)

    return damage


def on_picture(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda path: Image.fromarray(change(np.array(Image.open(path)))).save(path)


def mirror_axes(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine @ np.diag([-1, 1, 1, 1])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


def claim_ten_terabytes(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<4h", content, 40, 3, 30000, 30000, 6000)
    path.write_bytes(gzip.compress(content))


def shift(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 20
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def claim_many_pixels(path: Path) -> None:
    """Write a valid PNG header that claims 9,000×9,000 pixels, with hardly any data."""
    header = b"IHDR" + struct.pack(">II5B", 9000, 9000, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(9)), b"IEND")
    path.write_bytes(
        SIGNATURE
        + b"".join(
            struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks
        )
    )


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        changed = pixels.copy()
        changed.flat[0] = value
        return changed

    return change


def with_nan(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.astype(np.float32)
    changed[3, 3, 3] = np.nan
    return changed


IMAGE, LABELS = "imagesTr/BRATS_002.nii.gz", "labelsTr/BRATS_002.nii.gz"
SCAN, MASK = "benign/benign (2).png", "benign/benign (2)_mask.png"
PHOTO, BINARY = "images/3.JPG", "annotations/3_binary.PNG"

BAD = {
    "volume cut short": ("brats", IMAGE, cut, "damaged or cut short"),
    "mask cut short": ("brats", LABELS, cut, "damaged or cut short"),
    "flipped byte": ("brats", IMAGE, flip, "BRATS_002"),
    "wrong checksum": ("brats", IMAGE, flip_checksum, "damaged or cut short"),
    "empty volume": ("brats", IMAGE, empty, "cannot be read as NIfTI"),
    "text as volume": ("brats", LABELS, write_text, "its content is a web page or XML"),
    "no mask": ("brats", LABELS, Path.unlink, "there is no such file"),
    "no volume": ("brats", IMAGE, Path.unlink, "there is no such file"),
    "unknown label": ("brats", LABELS, on_volume(with_value(9)), r"labels \[9\], expected only"),
    "smaller mask": ("brats", LABELS, on_volume(lambda labels: labels[:-1]), r"the mask is \(47, 48, 12\)"),
    "other axes": ("brats", LABELS, mirror_axes, "the mask's axes are LAS, its image's RAS"),
    "shifted mask": ("brats", LABELS, shift, r"places it up to .* mm from its image's voxels"),
    "a folder": ("brats", IMAGE, make_folder, "it is not a file; expected NIfTI"),
    "NaN voxel": ("brats", IMAGE, on_volume(with_nan), "not finite"),
    "ten terabytes": ("brats", IMAGE, claim_ten_terabytes, "10058 GiB"),
    "JPEG cut short": ("otu2d", PHOTO, cut, "cannot be read as an image"),
    "empty JPEG": ("otu2d", PHOTO, empty, "cannot be read as an image"),
    "no ovary mask": ("otu2d", BINARY, Path.unlink, "no mask, expected"),
    "coloured mask": ("otu2d", BINARY, on_picture(with_value(38)), r"the mask has 2 labels, .*38"),
    "no photo": ("otu2d", PHOTO, Path.unlink, "there is no such file"),
    "no scan": ("busi", SCAN, Path.unlink, "there is no such file"),
    "text as PNG": ("busi", SCAN, write_text, "cannot be read as an image"),
    "flipped PNG": ("busi", SCAN, flip, "cannot be read as an image"),
    "no breast mask": ("busi", MASK, Path.unlink, "no mask, expected"),
    "a loop of links": ("busi", SCAN, loop, "cannot be read as an image"),
    "a bomb": ("busi", SCAN, claim_many_pixels, "its header claims 9000×9000 pixels"),
    "larger mask": ("busi", MASK, on_picture(lambda mask: np.pad(mask, 2)), "the mask is .*, its image "),
    "narrower mask": ("busi", MASK, on_picture(lambda mask: mask[:, 1:]), "the mask is .*, its image "),
}


def patients_in(path: Path) -> set[str]:
    """Return the patients of a preprocessed file under the names of the raw data."""
    return {case.patient for cases in reveal_cases(path).values() for case in cases}


@pytest.fixture(scope="module")
def whole(workspace) -> dict[str, set[str]]:
    """Return the patients of the undamaged data sets."""
    return {path.stem: patients_in(path) for path in (workspace() / "preprocessed").glob("*.h5")}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_case_is_named_and_nothing_is_written(what, raw_copy, tmp_path):
    dataset, name, damage, found = BAD[what]
    raw = raw_copy(dataset)
    damage(raw / name)
    stem = Path(name).name.split(".")[0].removesuffix("_mask").removesuffix("_binary")
    with pytest.raises(FlamesError, match=f"^{dataset} has 1 bad case: .*{found}") as refused:
        run(tmp_path / "made", dataset, raw)
    assert stem in str(refused.value)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert results_in(tmp_path / "made") == []


@pytest.mark.parametrize("what", BAD)
def test_a_bad_case_is_left_out_and_reported_where_that_is_wished(
    what, raw_copy, phantom_raw, whole, tmp_path
):
    dataset, name, damage, _ = BAD[what]
    raw = raw_copy(dataset)
    damage(raw / name)
    report = run(tmp_path / "made", dataset, raw, skip_bad=True)
    patient = {IMAGE: "BRATS_002", LABELS: "BRATS_002", PHOTO: "3", BINARY: "3"}.get(name, "benign (2)")
    made = tmp_path / "made" / "preprocessed" / f"{dataset}.h5"
    (bad,) = [row for row in private_rows(tmp_path / "made") if row["what"] == "bad"]
    assert report["bad"] == [bad["pseudonym"]]
    assert (bad["patient"], patient in bad["why"]) == (patient, True)
    assert report["sources"] == count_listed(dataset, phantom_raw[dataset])
    assert patients_in(made) == whole[dataset] - {patient}


def test_many_bad_cases_are_counted_and_the_first_named(raw_copy, tmp_path):
    raw = raw_copy("otu2d")
    for number in range(1, 8):
        (raw / "images" / f"{number}.JPG").write_bytes(b"")
    with pytest.raises(
        FlamesError, match=r"^otu2d has 7 bad cases: 1\.JPG.*; and 2 more\. .*--skip-bad$"
    ) as refused:
        run(tmp_path / "made", "otu2d", raw)
    assert "5.JPG" in str(refused.value)
    assert "6.JPG" not in str(refused.value)


def test_a_data_set_of_bad_cases_alone_is_rejected_even_with_skip_bad(raw_copy, tmp_path):
    raw = raw_copy("otu2d")
    for path in (raw / "images").iterdir():
        path.write_bytes(b"")
    message = r"^otu2d has 0 usable cases of 16: 16 bad \(1\.JPG.*; and 11 more\); expected some\."
    with pytest.raises(FlamesError, match=message):
        run(tmp_path / "made", "otu2d", raw, skip_bad=True)
    assert results_in(tmp_path / "made") == []


def test_a_data_set_of_empty_masks_alone_is_rejected_with_the_reason(raw_copy, tmp_path):
    raw = raw_copy("otu2d")
    for path in (raw / "annotations").iterdir():
        with Image.open(path) as mask:
            empty = Image.new("L", mask.size)
        empty.save(path)
    message = r"^otu2d has 0 usable cases of 16: 16 left out \(the mask is empty\); expected some\."
    with pytest.raises(FlamesError, match=message):
        run(tmp_path / "made", "otu2d", raw)
    assert results_in(tmp_path / "made") == []


def test_raw_data_that_are_not_there_name_the_layout_and_the_option(tmp_path):
    with pytest.raises(FlamesError, match=r"no folder .*brats.*imagesTr/BRATS_001\.nii\.gz.*pass --raw"):
        run(tmp_path / "made", "brats", tmp_path / "gone")
    assert results_in(tmp_path / "made") == []
