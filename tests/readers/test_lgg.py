from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.lgg import LGG
from tests.support.raw_cases import iter_raw_cases

SHAPE = (6, 8)
NAME = "TCGA_CS_4941_19960909"


def spot(value: int = 255) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 3] = value
    return mask


def write(root: Path, folder: str, number: int, mask: np.ndarray | None = None) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SHAPE[::-1], (10, 150, 40)).save(root / folder / f"{folder}_{number}.tif")
    if mask is not None:
        Image.fromarray(mask).save(root / folder / f"{folder}_{number}_mask.tif")


def read_one(root: Path, **options):
    (source,) = LGG.list_sources(root)
    (case,) = LGG.read_source(source, ReadOptions(**options))
    return case


def test_a_folder_is_a_patient_of_the_site_in_its_name(tmp_path):
    for folder, number in (("TCGA_DU_A5TP_19970614", 3), (NAME, 10), (NAME, 9)):
        write(tmp_path, folder, number, spot())
    sources = LGG.list_sources(tmp_path)
    assert [(source.patient, source.site) for source in sources] == [
        ("TCGA_CS_4941", "CS"),
        ("TCGA_CS_4941", "CS"),
        ("TCGA_DU_A5TP", "DU"),
    ]
    cases = list(iter_raw_cases(LGG, tmp_path))
    assert [case.slice_index for case in cases] == [9, 10, 3]
    assert [case.case for case in cases] == [f"{NAME}_9", f"{NAME}_10", "TCGA_DU_A5TP_19970614_3"]


def test_data_and_other_junk_are_ignored(tmp_path):
    write(tmp_path, NAME, 1, spot())
    for name in ("data.csv", "README.md", f"._{NAME}", f"{NAME}/._{NAME}_1.tif", f"{NAME}/Thumbs.db"):
        (tmp_path / name).write_bytes(b"junk")
    (tmp_path / "other").mkdir()
    assert [source.name for source in LGG.list_sources(tmp_path)] == [f"{NAME}_1.tif"]


def test_grey_is_flair_and_colour_is_all_three_channels(tmp_path):
    write(tmp_path, NAME, 1, spot())
    assert np.unique(read_one(tmp_path).image).tolist() == [150]
    assert np.unique(read_one(tmp_path, colour=True).image.reshape(-1, 3), axis=0).tolist() == [[10, 150, 40]]
    assert np.argwhere(read_one(tmp_path).mask).tolist() == [[2, 3]]


def test_empty_masks_are_skipped(tmp_path):
    write(tmp_path, NAME, 1, spot(0))
    write(tmp_path, NAME, 2, spot())
    with pytest.raises(SkippedCase, match="the mask is empty"):
        LGG.read_source(LGG.list_sources(tmp_path)[0], ReadOptions())
    assert [case.slice_index for case in iter_raw_cases(LGG, tmp_path)] == [2]


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (None, rf"^{NAME}_1\.tif: no mask, expected {NAME}_1_mask\.tif next to it"),
        (np.full((7, 8), 255, np.uint8), rf"^{NAME}_1_mask\.tif: the mask is 7×8, its image 6×8"),
        (spot(9) | spot()[::-1], rf"^{NAME}_1_mask\.tif: the mask has 2 labels, 9 "),
    ],
)
def test_a_mask_that_cannot_be_trusted_is_rejected_by_name(mask, found, tmp_path):
    write(tmp_path, NAME, 1, mask)
    with pytest.raises(BadCase, match=found):
        read_one(tmp_path)


def test_a_mask_without_its_image_is_bad(tmp_path):
    write(tmp_path, NAME, 1, spot())
    (tmp_path / NAME / f"{NAME}_1.tif").unlink()
    with pytest.raises(BadCase, match=rf"^{NAME}_1\.tif: there is no such file"):
        read_one(tmp_path)
