from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.polypgen import POLYPGEN

SHAPE = (16, 32)


def half() -> np.ndarray:
    """Right half marked, in blocks that JPEG keeps apart."""
    return np.repeat([[0, 255]], SHAPE[1] // 2, axis=1).repeat(SHAPE[0], axis=0).astype(np.uint8)


def write(root: Path, site: str, stem: str, mask: np.ndarray | None = None, mask_stem: str = "") -> None:
    images, masks = (root / f"data_{site}" / f"{kind}_{site}" for kind in ("images", "masks"))
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SHAPE[::-1], (200, 100, 50)).save(images / f"{stem}.jpg")
    if mask is not None:
        Image.fromarray(mask).save(masks / f"{mask_stem or stem}_mask.jpg")


def read_one(root: Path, **options):
    (source,) = POLYPGEN.list_sources(root)
    (case,) = POLYPGEN.read_source(source, ReadOptions(**options))
    return case


def test_every_centre_is_a_site_in_order(tmp_path):
    for site, stem in (("C6", "EndoCV2021_C6_0100025"), ("C1", "100H0051"), ("C1", "100H0050")):
        write(tmp_path, site, stem, half())
    sources = POLYPGEN.list_sources(tmp_path)
    assert [source.site for source in sources] == ["C1", "C1", "C6"]
    assert [source.image.name for source in sources] == [
        "100H0050.jpg",
        "100H0051.jpg",
        "EndoCV2021_C6_0100025.jpg",
    ]


@pytest.mark.parametrize(
    ("site", "stem", "patient"),
    [
        ("C1", "144OLCV1_100H0024", "C1/144"),
        ("C1", "144OLC1_100H0022", "C1/144"),
        ("C1", "100H0050", "C1/100H0050"),
        ("C2", "EndoCV2021_001000", "C2/EndoCV2021_001000"),
        ("C3", "C3_EndoCV2021_00489", "C3/C3_EndoCV2021_00489"),
        ("C4", "4_endocv2021_positive_34", "C4/4"),
        ("C5", "EndoCV2021_C5_50000346", "C5/EndoCV2021_C5_50000346"),
    ],
)
def test_patients_are_those_that_names_hold_else_the_images(site, stem, patient, tmp_path):
    write(tmp_path, site, stem, half())
    assert [source.patient for source in POLYPGEN.list_sources(tmp_path)] == [patient]


def test_centres_may_use_the_same_names_for_frames_and_patients(tmp_path):
    for site in ("C1", "C4"):
        write(tmp_path, site, "4_endocv2021_positive_34", half())
    sources = POLYPGEN.list_sources(tmp_path)
    for key in ("name", "patient", "case"):
        assert len({getattr(source, key) for source in sources}) == 2


def test_a_stray_underscore_of_an_image_does_not_hide_its_mask(tmp_path):
    write(tmp_path, "C3", "C3_EndoCV2021_00489_", half(), "C3_EndoCV2021_00489")
    assert read_one(tmp_path).mask.any()


def test_two_images_that_differ_by_an_underscore_stay_two(tmp_path):
    for stem in ("a", "a_"):
        write(tmp_path, "C3", stem, half())
    assert [source.image.name for source in POLYPGEN.list_sources(tmp_path)] == ["a.jpg", "a_.jpg"]
    (tmp_path / "data_C3" / "masks_C3" / "a__mask.jpg").unlink()
    assert [len(source.masks) for source in POLYPGEN.list_sources(tmp_path)] == [1, 0]


def test_boxes_sequences_and_junk_are_ignored(tmp_path):
    write(tmp_path, "C1", "100H0050", half())
    for folder in ("data_C1/bbox_C1", "data_C1/images_C1", "data_C1/masks_C1", "sequenceData/positive/seq1"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ("._100H0050.jpg", "._100H0050_mask.jpg", ".DS_Store", "Thumbs.db", "100H0050.txt"):
            (tmp_path / folder / name).write_bytes(b"junk")
    assert [source.name for source in POLYPGEN.list_sources(tmp_path)] == ["C1/100H0050.jpg"]


def test_masks_are_cut_at_half_and_images_are_grey_or_coloured(tmp_path):
    write(tmp_path, "C1", "100H0050", np.where(half() > 0, 129, 126).astype(np.uint8))
    case = read_one(tmp_path)
    np.testing.assert_array_equal(case.mask, half() > 0)
    assert case.image.shape == SHAPE
    colour = read_one(tmp_path, colour=True).image
    np.testing.assert_allclose(colour.mean((0, 1)), (200, 100, 50), atol=3)


def test_an_empty_mask_is_skipped(tmp_path):
    write(tmp_path, "C1", "100S0001", np.zeros(SHAPE, np.uint8))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^C1/100H0050\.jpg: no mask, expected masks_C1/100H0050_mask\.jpg"),
        (np.full((20, 32), 255, np.uint8), r"^100H0050_mask\.jpg: the mask is 20×32, its image 16×32"),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, "C1", "100H0050", mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, "C2", "EndoCV2021_001000", half())
    (tmp_path / "data_C2" / "images_C2" / "EndoCV2021_001000.jpg").unlink()
    with pytest.raises(BadCase, match=r"^EndoCV2021_001000\.jpg: there is no such file"):
        read_one(tmp_path)


def test_another_layout_has_no_sources(tmp_path):
    (tmp_path / "images").mkdir()
    assert POLYPGEN.list_sources(tmp_path) == []
