from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.imaging.geometry import to_square
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.otu2d import OTU2D
from tests.support.datasets import find_shared
from tests.support.raw_cases import iter_raw_cases

SHAPE = (5, 7)


def write(root: Path, number: int, mask: np.ndarray | None, suffix: str = ".JPG") -> None:
    for folder in ("images", "annotations"):
        (root / folder).mkdir(exist_ok=True)
    grey = Image.fromarray(np.full(SHAPE, 90, np.uint8))
    grey.convert("RGB").save(root / "images" / f"{number}{suffix}", "JPEG")
    if mask is not None:
        Image.fromarray(mask).save(root / "annotations" / f"{number}_binary.PNG")


def spot(value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 3] = value
    return mask


def read_one(root: Path):
    (source,) = OTU2D.list_sources(root)
    (case,) = OTU2D.read_source(source, ReadOptions())
    return case


def test_sources_are_in_order_of_number(tmp_path):
    for number in (10, 9, 1):
        write(tmp_path, number, spot())
    write(tmp_path, 2, spot(), ".jpeg")
    sources = OTU2D.list_sources(tmp_path)
    assert [source.name for source in sources] == ["1.JPG", "2.jpeg", "9.JPG", "10.JPG"]
    assert [source.patient for source in sources] == ["1", "2", "9", "10"]


def test_colour_and_doubled_annotations_and_other_junk_are_ignored(tmp_path):
    for number in range(1, 9):
        write(tmp_path, number, spot())
        for name in (f"{number}.PNG", f"{number}_binary_binary.PNG", f"._{number}_binary.PNG"):
            Image.fromarray(np.ones(SHAPE, np.uint8)).save(tmp_path / "annotations" / name)
    for name in ("._1.JPG", "Thumbs.db", "cover.jpg", "1.txt"):
        (tmp_path / "images" / name).write_bytes(b"junk")
    sources = OTU2D.list_sources(tmp_path)
    assert [source.name for source in sources] == [f"{number}.JPG" for number in range(1, 9)]
    assert [[path.name for path in source.masks] for source in sources] == [
        [f"{number}_binary.PNG"] for number in range(1, 9)
    ]
    assert all(case.mask.sum() == 1 for case in iter_raw_cases(OTU2D, tmp_path))


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, 4, spot())
    (tmp_path / "images" / "4.JPG").unlink()
    with pytest.raises(BadCase, match=r"^4\.JPG: there is no such file"):
        read_one(tmp_path)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_ones_and_of_255_give_the_same_mask(value, tmp_path):
    write(tmp_path, 1, spot(value))
    case = read_one(tmp_path)
    assert np.argwhere(case.mask).tolist() == [[2, 3]]
    assert case.mask.max() == 1
    assert case.image.shape == SHAPE


def test_an_empty_mask_is_skipped(tmp_path):
    write(tmp_path, 1, spot(0))
    write(tmp_path, 2, spot())
    with pytest.raises(SkippedCase, match="the mask is empty"):
        OTU2D.read_source(OTU2D.list_sources(tmp_path)[0], ReadOptions())
    assert [case.patient for case in iter_raw_cases(OTU2D, tmp_path)] == ["2"]


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^1\.JPG: no mask, expected annotations/1_binary\.PNG"),
        (spot()[:, :6], r"^1_binary\.PNG: the mask is 5×6, its image 5×7"),
        (spot(2) | np.roll(spot(9), 2), r"^1_binary\.PNG: the mask has 2 labels, 2 "),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, 1, mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_the_real_images_are_listed_without_their_junk():
    sources = OTU2D.list_sources(find_shared("data/otu2d"))
    assert len(sources) == 360
    assert all([path.name for path in source.masks] == [f"{source.patient}_binary.PNG"] for source in sources)


@pytest.mark.parametrize("number", ["1", "2", "37", "150", "300", "350"])
def test_real_images_become_what_the_authors_code_makes_of_them(number):
    golden = np.load(find_shared("golden/otu_preprocess.npz"))
    sources = {source.patient: source for source in OTU2D.list_sources(find_shared("data/otu2d"))}
    (case,) = OTU2D.read_source(sources[number], ReadOptions())
    image, mask = to_square(case.image, case.mask, 240, "paper")
    np.testing.assert_allclose(image / 255, golden[f"{number}_img"], atol=1.0001 / 255)
    np.testing.assert_array_equal(mask, golden[f"{number}_mask"])
