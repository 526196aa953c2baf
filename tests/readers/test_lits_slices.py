from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.lits_slices import LITS_SLICES
from tests.support.datasets import find_shared
from tests.support.raw_cases import iter_raw_cases

SHAPE = (16, 16)


def spot(value: int = 255) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:, 8:] = value
    return mask


def write(root: Path, site: str, volume: int, index: int, mask: np.ndarray | None = None) -> None:
    images, masks = (root / f"data_{site}" / f"{kind}_{site}" for kind in ("images", "masks"))
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SHAPE, 90, np.uint8)).save(images / f"image{volume}_slice{index}.jpg")
    if mask is not None:
        Image.fromarray(mask).save(masks / f"mask{volume}_slice{index}.jpg")


def read_one(root: Path):
    (source,) = LITS_SLICES.list_sources(root)
    (case,) = LITS_SLICES.read_source(source, ReadOptions())
    return case


def test_slices_come_by_centre_volume_and_index(tmp_path):
    for site, volume, index in (("C2", 30, 7), ("C1", 10, 5), ("C1", 9, 100), ("C1", 9, 20)):
        write(tmp_path, site, volume, index, spot())
    sources = LITS_SLICES.list_sources(tmp_path)
    assert [(source.site, source.patient) for source in sources] == [
        ("C1", "volume-9"),
        ("C1", "volume-9"),
        ("C1", "volume-10"),
        ("C2", "volume-30"),
    ]
    cases = list(iter_raw_cases(LITS_SLICES, tmp_path))
    assert [case.slice_index for case in cases] == [20, 100, 5, 7]
    assert [case.patient for case in cases] == [source.patient for source in sources]


def test_centres_may_give_their_volumes_the_same_numbers(tmp_path):
    for site in ("C1", "C2"):
        write(tmp_path, site, 4, 340, spot())
    sources = LITS_SLICES.list_sources(tmp_path)
    assert len({source.name for source in sources}) == len({source.case for source in sources}) == 2


def test_junk_is_ignored(tmp_path):
    write(tmp_path, "C1", 4, 340, spot())
    for folder in ("images_C1", "masks_C1"):
        for name in (
            "._image4_slice340.jpg",
            "Thumbs.db",
            "image4.jpg",
            "image4_slice1.png",
            "mask4_slice.jpg",
        ):
            (tmp_path / "data_C1" / folder / name).write_bytes(b"junk")
    assert [source.name for source in LITS_SLICES.list_sources(tmp_path)] == ["C1/image4_slice340.jpg"]


def test_masks_are_cut_at_half(tmp_path):
    write(tmp_path, "C1", 4, 340, spot(200) + np.uint8(20))
    case = read_one(tmp_path)
    np.testing.assert_array_equal(case.mask, spot() > 0)
    assert case.image.shape == SHAPE


def test_an_empty_mask_is_skipped(tmp_path):
    write(tmp_path, "C1", 4, 340, spot(0))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^C1/image4_slice340\.jpg: no mask, expected masks_C1/mask4_slice340\.jpg"),
        (np.full((24, 16), 255, np.uint8), r"^mask4_slice340\.jpg: the mask is 24×16, its image 16×16"),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, "C1", 4, 340, mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, "C1", 4, 340, spot())
    (tmp_path / "data_C1" / "images_C1" / "image4_slice340.jpg").unlink()
    with pytest.raises(BadCase, match=r"^image4_slice340\.jpg: there is no such file"):
        read_one(tmp_path)


def test_the_real_slices_are_those_of_ten_volumes_at_two_centres():
    sources = LITS_SLICES.list_sources(find_shared("data/lits-slices"))
    assert len(sources) == len({source.case for source in sources}) == 302
    volumes = {site: {source.patient for source in sources if source.site == site} for site in ("C1", "C2")}
    assert volumes == {
        "C1": {f"volume-{number}" for number in (0, 3, 4, 5, 7)},
        "C2": {f"volume-{number}" for number in (8, 9, 10, 11, 12)},
    }
    for source in sources[::60]:
        (case,) = LITS_SLICES.read_source(source, ReadOptions())
        assert case.image.shape == (512, 512)
        assert 0 < case.mask.mean() < 0.1
