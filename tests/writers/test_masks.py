"""Masks of every kind of image are complete or absent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.readers.base import BadCase, ReadOptions
from flames_cli.readers.inputs import InputImage, find_inputs, read_input
from flames_cli.writers.label import ModelLabel
from flames_cli.writers.masks import write_mask
from tests.readers.formats.test_dicom import affine_of
from tests.readers.formats.test_exif import png
from tests.support.phantoms.dicom import write_series
from tests.support.phantoms.dicom_bytes import image, write
from tests.support.phantoms.nifti_bytes import nifti_bytes, write_nifti

BY = ModelLabel("m", "1")
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def make_series(folder: Path) -> Path:
    write_series(folder / "a", VOXELS, affine_of("LPS"), "MR", "p1")
    return folder / "a"


def make_png(folder: Path) -> Path:
    (folder / "a.png").write_bytes(png(VOXELS[0].astype(np.uint8), None))
    return folder / "a.png"


SOURCES: dict[str, tuple[Callable[[Path], Path], tuple[int, ...], str]] = {
    "png": (make_png, (4, 5), ".png"),
    "nifti": (lambda folder: write_nifti(folder / "a.nii", nifti_bytes(VOXELS)), (3, 4, 5), ".nii.gz"),
    "series": (make_series, (3, 4, 5), ".dcm"),
    "dicom still": (
        lambda folder: write(folder / "a.dcm", image("US", (4, 5), bytes(range(20)))),
        (4, 5),
        ".dcm",
    ),
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path) -> tuple[InputImage, np.ndarray, str]:
    make, shape, suffix = SOURCES[request.param]
    (found,) = find_inputs([make(tmp_path)]).inputs
    return found, np.ones(shape, np.uint8), suffix


def test_a_mask_is_in_the_folder_of_its_name(source, tmp_path):
    found, mask, suffix = source
    written = write_mask(mask, found, tmp_path / "out" / "site 1" / "b.c", BY)
    assert written.path == tmp_path / "out" / "site 1" / f"b.c{suffix}"
    assert [path.name for path in written.path.parent.iterdir()] == [written.path.name]


def test_a_folder_that_cannot_be_made_is_named(source, tmp_path):
    found, mask, _ = source
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotWritten, match="cannot be written"):
        write_mask(mask, found, tmp_path / "file" / "b", BY)


def test_nothing_of_a_mask_is_left_if_the_disk_is_full(source, tmp_path, monkeypatch):
    found, mask, _ = source

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flames_cli.store.files.atomic.sync", fail)
    with pytest.raises(NotWritten, match="No space left on device"):
        write_mask(mask, found, tmp_path / "out" / "b", BY)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_exists_is_not_replaced_unasked(source, tmp_path):
    found, mask, suffix = source
    (tmp_path / f"b{suffix}").write_text("mine")
    with pytest.raises(FlamesError, match="exists already, expected a new file"):
        write_mask(mask, found, tmp_path / "b", BY)
    assert (tmp_path / f"b{suffix}").read_text() == "mine"
    assert write_mask(mask, found, tmp_path / "b", BY, overwrite=True).path.stat().st_size > 4


def test_a_source_that_was_damaged_since_is_named(source, tmp_path):
    found, mask, suffix = source
    read_input(found, ReadOptions())
    for path in found.files:
        path.write_bytes(b"gone")
    if suffix == ".png":  # the size of the mask is all that a still needs
        write_mask(mask, found, tmp_path / "b", BY)
        return
    with pytest.raises(BadCase):
        write_mask(mask, found, tmp_path / "b", BY)
