from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.kvasir import KVASIR
from tests.support.datasets import find_shared
from tests.support.raw_cases import iter_raw_cases

SHAPE = (16, 32)


def half(low: int = 0, high: int = 255) -> np.ndarray:
    return np.repeat([[low, high]], SHAPE[1] // 2, axis=1).repeat(SHAPE[0], axis=0).astype(np.uint8)


def write(root: Path, stem: str, mask: np.ndarray | None = None) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    Image.new("RGB", SHAPE[::-1], (200, 100, 50)).save(root / "images" / f"{stem}.jpg")
    if mask is not None:
        Image.fromarray(mask).convert("RGB").save(root / "masks" / f"{stem}.jpg")


def read_one(root: Path, **options):
    (source,) = KVASIR.list_sources(root)
    (case,) = KVASIR.read_source(source, ReadOptions(**options))
    return case


def test_every_image_is_a_patient_of_its_own(tmp_path):
    for stem in ("cju2", "cju10", "cju1"):
        write(tmp_path, stem, half())
    sources = KVASIR.list_sources(tmp_path)
    assert [source.name for source in sources] == ["cju1.jpg", "cju2.jpg", "cju10.jpg"]
    assert [case.patient for case in iter_raw_cases(KVASIR, tmp_path)] == ["cju1", "cju2", "cju10"]


def test_junk_is_ignored(tmp_path):
    write(tmp_path, "cju1", half())
    for name in ("kavsir_bboxes.json", "images/._cju1.jpg", "masks/.DS_Store", "images/Thumbs.db"):
        (tmp_path / name).write_bytes(b"junk")
    assert [source.name for source in KVASIR.list_sources(tmp_path)] == ["cju1.jpg"]


def test_masks_are_cut_at_half_and_images_are_grey_or_coloured(tmp_path):
    write(tmp_path, "cju1", half(120, 136))
    case = read_one(tmp_path)
    np.testing.assert_array_equal(case.mask, half() > 0)
    assert case.image.shape == SHAPE
    colour = read_one(tmp_path, colour=True).image
    np.testing.assert_allclose(colour.mean((0, 1)), (200, 100, 50), atol=3)


def test_an_empty_mask_is_skipped(tmp_path):
    write(tmp_path, "cju1", half(0, 0))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^cju1\.jpg: no mask, expected masks/cju1\.jpg"),
        (np.full((20, 32), 255, np.uint8), r"^cju1\.jpg: the mask is 20×32, its image 16×32"),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, "cju1", mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, "cju1", half())
    (tmp_path / "images" / "cju1.jpg").unlink()
    with pytest.raises(BadCase, match=r"^cju1\.jpg: there is no such file"):
        read_one(tmp_path)


def test_the_real_images_all_have_masks():
    sources = KVASIR.list_sources(find_shared("data/kvasir"))
    assert len(sources) == 220
    assert all(len(source.masks) == 1 for source in sources)
    for source in sources[::50]:
        (case,) = KVASIR.read_source(source, ReadOptions(colour=True))
        assert case.image.shape == (352, 352, 3)
        assert 0 < case.mask.mean() < 0.9
