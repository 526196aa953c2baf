"""Images without masks: found wherever they are, named differently, read as for training."""

import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, ReadOptions
from flames_cli.readers.formats.ranges import NEGATIVE, OTHER_UNITS
from flames_cli.readers.inputs import FoundInputs, find_inputs, read_input
from tests.readers.formats.test_dicom import affine_of
from tests.support.phantoms.dicom import write_segmentation, write_series
from tests.support.phantoms.dicom_bytes import image, write
from tests.support.phantoms.nifti_bytes import nifti_bytes, write_nifti
from tests.support.phantoms.tiff import Tiff, tiff_bytes

SHAPE = (5, 6, 7)


def draw(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return derive_rng(0, "inputs").integers(1, 255, shape).astype(np.uint8)


def png(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw((8, 9)) if pixels is None else pixels).save(path)
    return path


def nifti(path: Path) -> Path:
    return write_nifti(path, nifti_bytes(draw().astype("i2")))


def series(folder: Path, patient: str = "p1") -> Path:
    write_series(folder, draw().astype(np.int16), affine_of("LPS"), "MR", patient)
    return folder


def still(path: Path, **elements: object) -> Path:
    return write(path, image("US", (8, 9), draw((8, 9)).tobytes(), **elements))


def names(found: FoundInputs) -> list[str]:
    return [one.name for one in found.inputs]


def kinds(found: FoundInputs) -> dict[str, str]:
    return {one.name: one.kind for one in found.inputs}


def test_a_folder_is_searched_with_all_folders_in_it(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "x" / "b10.png")
    png(tmp_path / "x" / "b9.jpg")
    png(tmp_path / "x" / "c.bmp")
    (tmp_path / "x" / "d.tif").write_bytes(tiff_bytes(draw((8, 9))))
    nifti(tmp_path / "x" / "e.nii.gz")
    nifti(tmp_path / "x" / "f.nii")
    series(tmp_path / "x" / "scan")
    still(tmp_path / "x" / "g.dcm")
    assert kinds(find_inputs([tmp_path])) == {
        "a": "still",
        "x/b9": "still",
        "x/b10": "still",
        "x/c": "still",
        "x/d": "still",
        "x/e": "nifti",
        "x/f": "nifti",
        "x/g": "dicom-still",
        "x/scan": "series",
    }


def test_files_are_recognised_by_their_content_if_their_name_says_nothing(tmp_path):
    nifti(tmp_path / "a.nii").rename(tmp_path / "volume")
    png(tmp_path / "b.png").rename(tmp_path / "picture")
    still(tmp_path / "us")
    assert kinds(find_inputs([tmp_path])) == {"picture": "still", "us": "dicom-still", "volume": "nifti"}


def test_other_files_are_left_out_and_counted(tmp_path):
    png(tmp_path / "a.png")
    for name in (".DS_Store", "._a.png", "Thumbs.db", "DICOMDIR", "notes.txt", "labels.csv", "LICENSE"):
        (tmp_path / name).write_bytes(b"some text\n")
    png(tmp_path / ".hidden" / "b.png")
    png(tmp_path / "old" / "c.png")
    (tmp_path / "old" / "prediction.json").write_text("{}")
    write(tmp_path / "report", image("SC", (8, 9), None, rows=None, columns=None))
    found = find_inputs([tmp_path])
    assert names(found) == ["a"]
    assert found.ignored == {
        "hidden": 3,
        "folders of predictions": 1,
        "of the system": 2,
        "text": 3,
        "DICOM without an image": 1,
    }


def test_a_segmentation_is_left_out_of_a_folder_but_not_if_it_is_named(tmp_path):
    scan = tmp_path / "scan"
    images = write_series(scan, draw().astype(np.int16), affine_of("LPS"), "MR", "p1")
    write_segmentation(tmp_path / "seg.dcm", images, np.ones(SHAPE, np.uint8))
    found = find_inputs([tmp_path])
    assert kinds(found) == {"scan": "series"}
    assert found.ignored == {"DICOM without an image": 1}
    (named,) = find_inputs([tmp_path / "seg.dcm"]).inputs
    with pytest.raises(BadCase, match=r"seg\.dcm: it is a segmentation, .*, expected an image"):
        read_input(named, ReadOptions())


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such files")
def test_a_pipe_is_never_opened(tmp_path):
    png(tmp_path / "a.png")
    for name in ("pipe", "pipe.png", "pipe.dcm"):
        os.mkfifo(tmp_path / name)
    found = find_inputs([tmp_path])
    assert (names(found), found.ignored) == (["a"], {"of the system": 3})
    (named,) = find_inputs([tmp_path / "pipe.png"]).inputs
    with pytest.raises(BadCase, match="it is not a file"):
        read_input(named, ReadOptions())


def test_a_text_with_the_name_of_an_image_is_an_input_that_fails(tmp_path):
    (tmp_path / "a.png").write_text("404: not found\n")
    (found,) = find_inputs([tmp_path]).inputs
    with pytest.raises(BadCase, match=r"a\.png: cannot be read as an image"):
        read_input(found, ReadOptions())


def test_a_series_of_a_manifest_and_of_its_folder_is_one_input(tmp_path):
    for number, path in enumerate(sorted(series(tmp_path / "scan").iterdir())):
        path.rename(path.with_name(f"{number + 7}.dcm"))  # 10.dcm is before 7.dcm in the alphabet
    (found,) = find_inputs([tmp_path, manifest(tmp_path, "image,modality", "scan,MR-T2")]).inputs
    assert (found.name, found.modality, len(found.files)) == ("scan", "MR-T2", 7)


def test_a_folder_of_predictions_is_searched_if_it_is_named(tmp_path):
    png(tmp_path / "a.png")
    (tmp_path / "prediction.json").write_text("{}")
    assert names(find_inputs([tmp_path])) == ["a"]


@pytest.mark.parametrize("name", ["a.mha", "a.gif", "a", "a.png", "a.nii.gz", "a.dcm"])
def test_a_file_that_nobody_can_read_is_an_input_that_fails(name, tmp_path):
    png(tmp_path / "good.png")
    (tmp_path / name).write_bytes(b"\0\1\2\3" * 200)
    found = {one.name: one for one in find_inputs([tmp_path]).inputs}
    assert sorted(found) == ["a", "good"]
    with pytest.raises(BadCase, match=name):
        read_input(found["a"], ReadOptions())
    assert len(read_input(found["good"], ReadOptions())) == 1


def test_a_path_that_does_not_exist_is_an_input_that_fails(tmp_path):
    found = find_inputs([png(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "c"])
    assert names(found) == ["a", "b", "c"]
    for one in found.inputs[1:]:
        with pytest.raises(BadCase, match="there is no such file"):
            read_input(one, ReadOptions())


@pytest.mark.parametrize("path", ["absent.png", "empty", "*.png"])
def test_no_image_at_all_is_an_error(path, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    with pytest.raises(FlamesError, match=r"no images in .*, expected files .*; check the paths"):
        find_inputs([tmp_path / path])


def test_patterns_that_the_shell_did_not_expand_are_expanded(tmp_path):
    for name in ("a10.png", "a9.png", "b.jpg", "x/a1.png"):
        png(tmp_path / name)
    assert names(find_inputs([tmp_path / "*.png"])) == ["a9", "a10"]
    assert names(find_inputs([tmp_path / "**" / "*.png"])) == ["a9", "a10", "a1"]
    png(tmp_path / "odd[1].png")
    assert names(find_inputs([tmp_path / "odd[1].png"])) == ["odd[1]"]


def test_the_same_file_is_one_input_however_it_is_named(tmp_path, monkeypatch):
    png(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert names(find_inputs(["a.png", "./a.png", tmp_path, tmp_path / "link.png"])) == ["a"]


def test_links_in_a_circle_end(tmp_path):
    png(tmp_path / "x" / "a.png")
    (tmp_path / "x" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert names(find_inputs([tmp_path])) == ["x/a"]


def test_the_slices_of_a_series_are_one_input_also_if_each_is_named(tmp_path):
    scan = series(tmp_path / "scan")
    files = sorted(scan.iterdir())
    for arguments in ([scan], files, [scan / "*.dcm"], [files[3], scan], [tmp_path]):
        (found,) = find_inputs(arguments).inputs
        assert (found.name, found.kind, found.modality) == ("scan", "series", "MRI")
        assert sorted(found.files) == files
        assert len(read_input(found, ReadOptions())) == SHAPE[2]
    (one,) = find_inputs(files[:1]).inputs
    assert (one.name, len(read_input(one, ReadOptions()))) == ("IM0001", 1)


def test_several_series_in_one_folder_are_separated_without_dcm_in_their_names(tmp_path):
    for number, patient in enumerate("ab"):
        for path in sorted(series(tmp_path / f"{number}", patient).iterdir()):
            path.rename(tmp_path / f"{patient}{path.stem}")
        (tmp_path / f"{number}").rmdir()
    still(tmp_path / "us", series="1.2.9")
    png(tmp_path / "picture.png")
    found = find_inputs([tmp_path])
    assert kinds(found) == {
        "picture": "still",
        "us": "dicom-still",
        "aIM0001": "series",
        "bIM0001": "series",
    }
    assert [len(one.files) for one in found.inputs] == [1, 1, 7, 7]
    for one in found.inputs[2:]:
        cases = read_input(one, ReadOptions())
        assert sorted(case.image.sum() for case in cases) == sorted(draw().sum((0, 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_frame_of_a_clip_and_each_page_of_a_tiff_is_an_input(dtype, tmp_path):
    frames = draw((3, 8, 9))
    write(tmp_path / "clip.dcm", image("US clip", (8, 9), frames.tobytes(), frames=3))
    pages = frames.astype(dtype) * (1 if dtype == np.uint8 else 257)
    stack = [Image.fromarray(page) for page in pages]
    stack[0].save(tmp_path / "stack.tif", save_all=True, append_images=stack[1:])
    found = find_inputs([tmp_path])
    assert names(found) == [f"{name}/frame{number}" for name in ("clip", "stack") for number in (1, 2, 3)]
    for one, expected in zip(found.inputs, [*frames, *pages], strict=True):
        (case,) = read_input(one, ReadOptions())
        np.testing.assert_array_equal(case.image, expected)


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pages_of_a_tiff_of_any_kind_are_read(order, is_big, tmp_path):
    deep = draw((8, 9)).astype(np.uint16) * 250
    (tmp_path / "a.tif").write_bytes(tiff_bytes(deep, Tiff(order=order, is_big=is_big, pages=2)))
    found = find_inputs([tmp_path / "a.tif"]).inputs
    assert len(found) == 2
    for one in found:
        np.testing.assert_array_equal(read_input(one, ReadOptions())[0].image, deep)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_all_slices_of_a_volume_are_read_in_order(plane, tmp_path):
    (found,) = find_inputs([nifti(tmp_path / "a.nii.gz")]).inputs
    cases = read_input(found, ReadOptions(plane=plane, slices="lesion"))
    axis = ("sagittal", "coronal", "axial").index(plane)
    assert [one.slice_index for one in cases] == list(range(SHAPE[axis]))
    assert all(one.place and one.place.n_slices == SHAPE[axis] for one in cases)
    assert not any(one.mask.any() for one in cases)


def test_the_rule_of_the_model_replaces_those_of_modalities(tmp_path):
    (found,) = find_inputs([nifti(tmp_path / "a.nii.gz")]).inputs
    voxels = draw().astype(float)

    def ends(rule: IntensityRule) -> tuple[float, float]:
        case = read_input(found, ReadOptions(intensities=rule, windows={"": (1.0, 2.0)}, percentile=50))[0]
        return case.low, case.high

    assert ends(IntensityRule((-160.0, 240.0))) == (-160.0, 240.0)
    assert ends(IntensityRule(None, 90.0)) == (0.0, pytest.approx(np.percentile(voxels, 90)))


def test_images_of_8_bits_keep_their_values(tmp_path):
    (found,) = find_inputs([png(tmp_path / "a.png")]).inputs
    (case,) = read_input(found, ReadOptions(intensities=IntensityRule((-160.0, 240.0))))
    assert (case.low, case.high, case.max_value, case.notes) == (0.0, 255.0, 255, ())
    np.testing.assert_array_equal(case.image, draw((8, 9)))


def test_intensities_in_other_units_are_a_note(tmp_path):
    (found,) = find_inputs([nifti(tmp_path / "a.nii.gz")]).inputs
    assert OTHER_UNITS in read_input(found, ReadOptions(intensities=IntensityRule((-160.0, 240.0))))[0].notes
    scores = write_nifti(tmp_path / "z.nii", nifti_bytes(draw().astype("i2") - 128))
    (found,) = find_inputs([scores]).inputs
    assert NEGATIVE in read_input(found, ReadOptions(intensities=IntensityRule()))[0].notes
    assert read_input(found, ReadOptions(intensities=IntensityRule((-160.0, 240.0))))[0].notes == ()


def test_a_volume_of_zeros_is_an_input_that_fails(tmp_path):
    (found,) = find_inputs([write_nifti(tmp_path / "a.nii", nifti_bytes(np.zeros(SHAPE, "i2")))]).inputs
    with pytest.raises(BadCase, match="expected above 0 by the rule of the model; check the file"):
        read_input(found, ReadOptions(intensities=IntensityRule()))


def test_reading_takes_the_memory_of_one_volume(tmp_path):
    voxels = derive_rng(0, "memory").integers(0, 1000, (64, 64, 64)).astype(np.int16)
    (found,) = find_inputs([write_nifti(tmp_path / "a.nii", nifti_bytes(voxels))]).inputs
    tracemalloc.start()
    cases = read_input(found, ReadOptions(intensities=IntensityRule((0.0, 1000.0))))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cases) == 64
    assert held < 2 * voxels.nbytes
    assert peak < 4 * voxels.nbytes


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_manifest_needs_images_alone(tmp_path):
    png(tmp_path / "x" / "a.png")
    series(tmp_path / "scan")
    found = find_inputs([manifest(tmp_path, "image", "x/a.png", "scan")])
    assert kinds(found) == {"x/a": "still", "scan": "series"}
    assert [one.modality for one in found.inputs] == ["", "MRI"]


def test_a_manifest_may_have_masks_and_columns_that_are_empty_in_some_rows(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    png(tmp_path / "m.png", (draw((8, 9)) > 99).astype(np.uint8) * 255)
    path = manifest(
        tmp_path,
        "image,mask,patient_id,modality,organ,site,age",
        "a.png,m.png,p1,us,Breast,s1,50",
        "b.png,,,,,,",
    )
    found = find_inputs([path], keep=["age"])
    first, second = found.inputs
    assert (first.source.patient, first.modality, first.source.organ) == ("p1", "US", "breast")
    assert first.source.extra == (("age", "50"),)
    assert (second.source.patient, second.modality, second.source.masks) == ("", "", ())
    assert not second.source.is_healthy
    assert not read_input(first, ReadOptions())[0].mask.any()
    truth = read_input(first, ReadOptions(), with_masks=True)[0].mask
    np.testing.assert_array_equal(truth > 0, draw((8, 9)) > 99)


def test_the_masks_of_a_manifest_are_no_inputs_of_its_folder(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "m.png")
    png(tmp_path / "c.png")
    found = find_inputs([tmp_path, manifest(tmp_path, "image,mask", "a.png,m.png")])
    assert names(found) == ["a", "c"]
    assert found.inputs[0].source.masks == (tmp_path / "m.png",)
    assert found.ignored == {"text": 1, "masks of a manifest": 1}


def test_a_row_may_name_a_frame_and_else_is_the_complete_clip(tmp_path):
    write(tmp_path / "a.dcm", image("US clip", (8, 9), draw((3, 8, 9)).tobytes(), frames=3))
    assert names(find_inputs([manifest(tmp_path, "image", "a.dcm")])) == [f"a/frame{n}" for n in (1, 2, 3)]
    (found,) = find_inputs([manifest(tmp_path, "image,frame", "a.dcm,2")]).inputs
    assert found.name == "a/frame2"
    np.testing.assert_array_equal(read_input(found, ReadOptions())[0].image, draw((3, 8, 9))[1])
    (found,) = find_inputs([manifest(tmp_path, "image,frame", "a.dcm,4")]).inputs
    with pytest.raises(BadCase, match="frame 4 does not exist, the file has 3"):
        read_input(found, ReadOptions())


def test_a_row_whose_file_is_bad_does_not_end_the_others(tmp_path):
    png(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    found = find_inputs([manifest(tmp_path, "image", "a.png", "absent.png", "empty")])
    assert names(found) == ["a", "absent", "empty"]
    for one, reason in zip(found.inputs[1:], ("no such file", "no DICOM files in it"), strict=True):
        with pytest.raises(BadCase, match=reason):
            read_input(one, ReadOptions())


def test_the_paths_of_a_manifest_may_be_relative_to_another_folder(tmp_path):
    png(tmp_path / "images" / "a.png")
    (tmp_path / "tables").mkdir()
    path = manifest(tmp_path / "tables", "image", "a.png")
    assert names(find_inputs([path], root=tmp_path / "images")) == ["a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("mask", "a.png"), "no column image"),
        (("image", "../a.png"), "row 2: a path is not inside"),
        (("image,patient_id", ",p1"), "row 2: image is empty"),
        (("image,modality", "a.png,?"), r"row 2: modality '\?'"),
    ],
)
def test_faults_of_a_manifest_are_errors(lines, message, tmp_path):
    png(tmp_path / "a.png")
    with pytest.raises(FlamesError, match=message):
        find_inputs([manifest(tmp_path, *lines)])


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_name_that_is_not_text_is_an_input_that_fails(tmp_path):
    png(tmp_path / "a.png").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")))
    png(tmp_path / "b.png")
    bad, good = sorted(find_inputs([tmp_path]).inputs, key=lambda one: not one.problem)
    assert good.name == "b"
    with pytest.raises(BadCase, match="its name is not UTF-8, expected one that is; rename it"):
        read_input(bad, ReadOptions())


pieces = st.sampled_from(
    [
        b"",
        b"DICM",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"\x1f\x8b\x08",
        b"n+1\0",
        b"\xff\xd8\xff",
        b"\0" * 128,
        b"text",
    ]
)
endings = st.sampled_from(["", ".png", ".tif", ".nii", ".nii.gz", ".dcm", ".jpg", ".csv", ".xyz"])


@given(st.lists(st.tuples(endings, pieces, st.binary(max_size=40)), min_size=1, max_size=3))
def test_files_of_any_content_are_read_left_out_or_fail_with_a_reason(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("fuzz")
    png(folder / "good.png")
    for number, (ending, piece, content) in enumerate(drawn):
        (folder / f"{number}{ending}").write_bytes(piece + content)
    found = find_inputs([folder])
    assert "good" in names(found)
    for one in found.inputs:
        with suppress(BadCase):
            read_input(one, ReadOptions())
