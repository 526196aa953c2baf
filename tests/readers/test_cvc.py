from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.cvc import CVC_CLINICDB, SEQUENCE_STARTS
from tests.support.phantoms.tiff import Tiff, tiff_bytes
from tests.support.raw_cases import iter_raw_cases

SHAPE = (6, 8)
HEADER = "frame_id,sequence_id,png_image_path,png_mask_path"


def half(low: int = 0, high: int = 255) -> np.ndarray:
    return np.repeat([[low, high]], SHAPE[1] // 2, axis=1).repeat(SHAPE[0], axis=0).astype(np.uint8)


def write(root: Path, name: str, mask: np.ndarray | None = None) -> None:
    """Save `name` such as "1.tif" in `Original` and `Ground Truth` of `root`."""
    for folder in ("Original", "Ground Truth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SHAPE[::-1], (200, 100, 50)).save(root / "Original" / name)
    if mask is not None:
        Image.fromarray(mask).save(root / "Ground Truth" / name)


def read_one(root: Path, **options):
    (source,) = CVC_CLINICDB.list_sources(root)
    (case,) = CVC_CLINICDB.read_source(source, ReadOptions(**options))
    return case


def patients(root: Path) -> dict[str, str]:
    return {source.name: source.patient for source in CVC_CLINICDB.list_sources(root)}


@pytest.mark.parametrize("inside", ["", "PNG", "TIF"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_both_formats_are_read_in_every_layout(inside, suffix, tmp_path):
    for number in (10, 2):
        write(tmp_path / inside, f"{number}.{suffix}", half())
    assert [source.name for source in CVC_CLINICDB.list_sources(tmp_path)] == [f"2.{suffix}", f"10.{suffix}"]
    assert [case.case for case in iter_raw_cases(CVC_CLINICDB, tmp_path)] == ["2", "10"]


@pytest.mark.parametrize("samples", [1, 3])
def test_the_authors_tiffs_declare_three_colours_as_grey(samples, tmp_path):
    write(tmp_path, "1.tif", half())
    colours = np.zeros((*SHAPE, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    mask = np.repeat(half()[..., None], samples, axis=2)
    (tmp_path / "Original" / "1.tif").write_bytes(tiff_bytes(colours, Tiff(meaning=1)))
    (tmp_path / "Ground Truth" / "1.tif").write_bytes(tiff_bytes(mask, Tiff(meaning=1)))
    case = read_one(tmp_path, colour=True)
    np.testing.assert_array_equal(case.image, colours)
    np.testing.assert_array_equal(case.mask, half() // 255)


def test_frames_that_exist_twice_are_read_once(tmp_path):
    write(tmp_path / "PNG", "1.png", half())
    write(tmp_path / "TIF", "1.tif", half())
    (source,) = CVC_CLINICDB.list_sources(tmp_path)
    assert source.image == tmp_path / "PNG" / "Original" / "1.png"


def test_the_sequences_of_the_sets_page_keep_neighbouring_frames_together(tmp_path):
    for number in (1, 25, 26, 611, 612, 613, 614):
        write(tmp_path, f"{number}.png", half())
    assert list(patients(tmp_path).values()) == [
        "sequence-1",
        "sequence-1",
        "sequence-2",
        "sequence-29",
        "sequence-29",
        "sequence-of-613",
        "sequence-of-614",
    ]


def test_the_sets_page_names_29_sequences():
    assert len(SEQUENCE_STARTS) == 29
    assert list(SEQUENCE_STARTS) == sorted(set(SEQUENCE_STARTS))


def test_metadata_goes_before_the_sets_page(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / "PNG", f"{number}.png", half())
    rows = [HEADER, "1,7,PNG/Original/1.png,x", "2,8,PNG\\Original\\2.png,x", "3,,PNG/Original/3.png,x"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    assert patients(tmp_path) == {"1.png": "sequence-7", "2.png": "sequence-8", "3.png": "sequence-1"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            b"frame_id,path\n1,a",
            r"metadata\.csv: its columns are \['frame_id', 'path'\], expected sequence_id",
        ),
        (b"", r"metadata\.csv: its columns are None"),
        (b"\xff\xfe\x00", r"metadata\.csv cannot be read as a CSV in UTF-8; restore it or remove it"),
    ],
)
def test_metadata_without_sequences_is_rejected(content, found, tmp_path):
    write(tmp_path, "1.png", half())
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(FlamesError, match=found):
        CVC_CLINICDB.list_sources(tmp_path)


def test_rows_that_end_early_are_passed_over(tmp_path):
    write(tmp_path, "1.png", half())
    (tmp_path / "metadata.csv").write_text(f"{HEADER}\n1\n", encoding="utf-8")
    assert patients(tmp_path) == {"1.png": "sequence-1"}


def test_junk_is_ignored(tmp_path):
    write(tmp_path, "1.tif", half())
    for name in ("class_dict.csv", "Original/._1.tif", "Original/Thumbs.db", "Ground Truth/cover.tif"):
        (tmp_path / name).write_bytes(b"junk")
    assert list(patients(tmp_path)) == ["1.tif"]


def test_smoothed_masks_are_cut_at_half_and_images_are_grey_or_coloured(tmp_path):
    write(tmp_path, "1.tif", half(127, 128))
    case = read_one(tmp_path)
    np.testing.assert_array_equal(case.mask, half() > 0)
    assert case.image.shape == SHAPE
    assert np.unique(read_one(tmp_path, colour=True).image.reshape(-1, 3), axis=0).tolist() == [
        [200, 100, 50]
    ]


def test_an_empty_mask_is_skipped(tmp_path):
    write(tmp_path, "1.tif", half(0, 0))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, r"^1\.tif: no mask, expected Ground Truth/1\.tif"),
        (np.full((7, 8), 255, np.uint8), r"^1\.tif: the mask is 7×8, its image 6×8"),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, "1.tif", mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, "1.png", half())
    (tmp_path / "Original" / "1.png").unlink()
    with pytest.raises(BadCase, match=r"^1\.png: there is no such file"):
        read_one(tmp_path)


def test_another_layout_has_no_sources(tmp_path):
    (tmp_path / "images").mkdir()
    assert CVC_CLINICDB.list_sources(tmp_path) == []
