import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.busi import BUSI
from tests.support.datasets import find_shared
from tests.support.raw_cases import iter_raw_cases

SHAPE = (5, 7)


def blank(value: int = 90) -> np.ndarray:
    return np.full(SHAPE, value, np.uint8)


def spot(row: int, column: int, value: int = 255) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[row, column] = value
    return mask


def save(root: Path, name: str, pixels: np.ndarray, mode: str = "L") -> None:
    """Save `name` such as "benign (1)_mask" in its class's folder."""
    for kind in ("benign", "malignant", "normal"):
        (root / kind).mkdir(exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(root / name.split()[0] / f"{name}.png")


def read_one(root: Path):
    (source,) = BUSI.list_sources(root)
    (case,) = BUSI.read_source(source, ReadOptions())
    return case


def test_sources_are_in_order_of_number_benign_first(tmp_path):
    for name in ("malignant (3)", "benign (10)", "benign (2)", "benign (1)"):
        save(tmp_path, name, blank())
    sources = BUSI.list_sources(tmp_path)
    assert [source.name for source in sources] == ["benign (1)", "benign (2)", "benign (10)", "malignant (3)"]
    assert [source.stratum for source in sources] == ["benign"] * 3 + ["malignant"]
    assert len({source.patient for source in sources}) == 4


@pytest.mark.parametrize("missing", ["benign", "malignant"])
def test_a_download_of_one_class_alone_is_rejected(missing, tmp_path):
    save(tmp_path, "benign (1)", blank())
    shutil.rmtree(tmp_path / missing)
    with pytest.raises(FlamesError, match=f"no folder .*{missing}: expected benign/.*; unpack all of "):
        BUSI.list_sources(tmp_path)


def test_a_folder_of_another_layout_has_no_sources(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    assert BUSI.list_sources(tmp_path) == []


def test_a_mask_without_its_image_is_bad(tmp_path):
    save(tmp_path, "malignant (4)_mask", spot(1, 1))
    with pytest.raises(BadCase, match=r"^malignant \(4\)\.png: there is no such file"):
        read_one(tmp_path)


def test_normal_images_are_healthy_and_follow_those_with_lesions(tmp_path):
    for name in ("normal (2)", "malignant (1)", "benign (1)"):
        save(tmp_path, name, blank())
        save(tmp_path, f"{name}_mask", spot(1, 1, value=0 if name == "normal (2)" else 255))
    listed = BUSI.list_sources(tmp_path)
    assert [(one.name, one.stratum, one.is_healthy) for one in listed] == [
        ("benign (1)", "benign", False),
        ("malignant (1)", "malignant", False),
        ("normal (2)", "normal", True),
    ]
    (case,) = BUSI.read_source(listed[2], ReadOptions(keep_empty=True))
    assert not case.mask.any()
    with pytest.raises(SkippedCase, match="the mask is empty"):
        BUSI.read_source(listed[2], ReadOptions())


def test_a_normal_image_whose_mask_has_a_lesion_is_bad(tmp_path):
    for name in ("benign (1)", "normal (1)"):
        save(tmp_path, name, blank())
        save(tmp_path, f"{name}_mask", spot(1, 1))
    with pytest.raises(BadCase, match=r"^normal \(1\): its mask has a lesion, expected none"):
        BUSI.read_source(BUSI.list_sources(tmp_path)[1], ReadOptions(keep_empty=True))


def test_normal_images_alone_are_no_data_set(tmp_path):
    save(tmp_path, "normal (1)", blank())
    for name in ("benign", "malignant"):
        (tmp_path / name).rmdir()
    assert BUSI.list_sources(tmp_path) == []


def test_junk_is_ignored(tmp_path):
    save(tmp_path, "benign (1)", blank())
    save(tmp_path, "benign (1)_mask", spot(1, 1))
    for name in (
        "._benign (1).png",
        "._benign (1)_mask.png",
        "Thumbs.db",
        "benign.png",
        "benign (x).png",
        "benign (2)_mask.txt",
    ):
        (tmp_path / "benign" / name).write_bytes(b"junk")
    (source,) = BUSI.list_sources(tmp_path)
    assert source.name == "benign (1)"
    assert [path.name for path in source.masks] == ["benign (1)_mask.png"]


def test_the_masks_of_an_image_are_joined(tmp_path):
    save(tmp_path, "benign (1)", blank(), "RGB")
    save(tmp_path, "benign (1)_mask", spot(0, 1))
    save(tmp_path, "benign (1)_mask_1", spot(2, 3), "1")
    save(tmp_path, "benign (1)_mask_2", spot(4, 6), "RGB")
    case = read_one(tmp_path)
    assert np.argwhere(case.mask).tolist() == [[0, 1], [2, 3], [4, 6]]
    assert np.unique(case.mask).tolist() == [0, 1]
    np.testing.assert_array_equal(case.image, blank())


def test_masks_go_to_the_image_of_their_number(tmp_path):
    for number in (1, 11):
        save(tmp_path, f"benign ({number})", blank())
        save(tmp_path, f"benign ({number})_mask", spot(0, 0))
    assert [len(source.masks) for source in BUSI.list_sources(tmp_path)] == [1, 1]


def test_masks_of_ones_count_as_masks(tmp_path):
    save(tmp_path, "malignant (1)", blank())
    save(tmp_path, "malignant (1)_mask", spot(2, 2, value=1))
    assert read_one(tmp_path).mask.sum() == 1


def test_an_empty_mask_is_skipped(tmp_path):
    save(tmp_path, "benign (1)", blank())
    save(tmp_path, "benign (1)_mask", spot(0, 0, value=0))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)
    assert list(iter_raw_cases(BUSI, tmp_path)) == []


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^benign \(1\): no mask, expected 'benign \(1\)_mask\.png' next to it"),
        (spot(1, 1)[:4], r"^benign \(1\)_mask\.png: the mask is 4×7, its image 5×7"),
        (spot(1, 1, 7) | spot(2, 2), r"^benign \(1\)_mask\.png: the mask has 2 labels, 7 .*the download"),
        (spot(1, 1) | spot(2, 2, value=254), r"the mask is soft: it has 3 values from 0 to 255, 0, 254, 255"),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    save(tmp_path, "benign (1)", blank())
    if mask is not None:
        save(tmp_path, "benign (1)_mask", mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)
    with pytest.raises(BadCase, match=found):
        list(iter_raw_cases(BUSI, tmp_path))


def test_the_real_images_are_all_sound():
    root = find_shared("data/busi") / BUSI.folder
    sources = BUSI.list_sources(root)
    assert len(sources) == 132
    several = [source for source in sources if len(source.masks) > 1]
    for source in (*several[:3], *sources[:3], *sources[-3:]):
        (case,) = BUSI.read_source(source, ReadOptions())
        assert case.image.dtype == np.uint8
        assert 0 < case.mask.mean() < 0.7
