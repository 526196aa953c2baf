import csv
import os
import re
import shutil
import struct
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, SkippedCase, find_root
from flames_cli.readers.manifest import MANIFEST
from flames_cli.readers.manifest_table import SPLITS
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.datasets import find_shared, reveal_cases, reveal_report
from tests.support.phantoms.dicom import write_segmentation, write_series
from tests.support.phantoms.hospital import draw_manifest

COLUMNS = ("image", "mask", "patient_id", "modality", "organ")
ROW = ("a.png", "a_mask.png", "p1", "US", "breast")
SHAPE = (7, 6, 5)
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])


def write(root: Path, *rows: Sequence[str], columns: Sequence[str] = COLUMNS, delimiter: str = ",") -> Path:
    with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([columns, *rows])
    return root


def read_one(root: Path, options: ReadOptions | None = None) -> list[RawCase]:
    (source,) = MANIFEST.list_sources(root)
    return MANIFEST.read_source(source, options or ReadOptions())


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def draw(*shape: int, dtype: type = np.uint8, high: int = 255) -> np.ndarray:
    return derive_rng(0, "manifest", *shape).integers(1, high, shape).astype(dtype)


def box(shape: Sequence[int], value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros(shape, dtype)
    mask[tuple(slice(1, 3) for _ in shape)] = value
    return mask


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray = LPS) -> None:
    nib.save(nib.Nifti1Image(voxels, affine), path)


def test_the_manifest_is_a_file_or_is_in_a_folder(tmp_path):
    write(tmp_path, ROW)
    (tmp_path / "manifest.csv").rename(tmp_path / "liste.csv")
    assert MANIFEST.list_sources(tmp_path) == []
    assert [source.name for source in MANIFEST.list_sources(tmp_path / "liste.csv")] == ["a.png"]
    assert find_root(MANIFEST, tmp_path / "liste.csv") == tmp_path / "liste.csv"
    write(tmp_path, ROW)
    assert find_root(MANIFEST, tmp_path) == tmp_path / "manifest.csv"
    assert len(MANIFEST.list_sources(tmp_path)) == 1


def test_a_row_is_a_source(tmp_path):
    row = ("Größe 1/Bild 1.png", "Größe 1/Maske 1.png; Größe 1/Maske 2.png", "Ä 7", "us", " Breast ")
    write(tmp_path, (*row, "Köln", "server"), columns=(*COLUMNS, "site", "split"))
    (source,) = MANIFEST.list_sources(tmp_path)
    assert (source.name, source.case, source.patient) == ("Größe 1/Bild 1.png", "Größe 1/Bild 1", "Ä 7")
    assert source.image == tmp_path / "Größe 1" / "Bild 1.png"
    assert [mask.name for mask in source.masks] == ["Maske 1.png", "Maske 2.png"]
    assert (source.modality, source.organ, source.site) == ("US", "breast", "Köln")
    assert source.fixed_set == "server_test"


def test_images_that_differ_in_suffix_alone_are_two_cases(tmp_path):
    write(tmp_path, ROW, ("a.jpg", *ROW[1:]), ("b.png", *ROW[1:]))
    assert [source.case for source in MANIFEST.list_sources(tmp_path)] == ["a.png", "a.jpg", "b"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *[("mr", "MRI"), ("MR", "MRI"), ("Mri", "MRI"), ("ct", "CT"), ("us", "US"), ("Ultrasound", "US")],
        *[("endoscopy", "Endoscopy"), ("PET CT", "PET CT"), ("X-ray", "X-ray")],
    ],
)
def test_known_modalities_are_spelt_in_one_way(written, read, tmp_path):
    write(tmp_path, (*ROW[:3], written, "organ"))
    assert MANIFEST.list_sources(tmp_path)[0].modality == read


def test_the_splits_are_the_sets(tmp_path):
    rows = [
        (f"{name}.png", f"m-{name}.png", name, "US", "breast", name)
        for name in ("train", "val", "Test", "server")
    ]
    write(tmp_path, *rows, columns=(*COLUMNS, "split"))
    sets = [source.fixed_set for source in MANIFEST.list_sources(tmp_path)]
    assert sets == ["client_train", "client_val", "client_test", "server_test"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_tables_of_every_spreadsheet_are_read(delimiter, mark, newline, tmp_path):
    row = ("a.png", "a_mask.png;b_mask.png", "Müller, 1", "US", "breast")
    write(tmp_path, row, ("", "", "", "", ""), delimiter=delimiter)
    path = tmp_path / "manifest.csv"
    path.write_bytes(mark + path.read_bytes().replace(b"\r\n", newline) + newline)
    (source,) = MANIFEST.list_sources(tmp_path)
    assert len(source.masks) == 2
    assert source.patient == "Müller, 1"


def test_columns_may_be_in_any_order_and_case(tmp_path):
    write(tmp_path, ROW[::-1], columns=[name.upper() for name in COLUMNS[::-1]])
    assert MANIFEST.list_sources(tmp_path)[0].name == "a.png"


def test_paths_may_be_written_as_windows_does(tmp_path):
    write(tmp_path, ("one\\a.png", ".\\one\\a_mask.png", *ROW[2:]))
    (source,) = MANIFEST.list_sources(tmp_path)
    assert source.name == "one/a.png"
    assert source.masks == (tmp_path / "one" / "a_mask.png",)


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_files_are_found_whichever_way_their_names_write_an_accent(table, disk, tmp_path):
    def name(form: str, kind: str) -> str:
        # The folder is always in one form: an archive may mix both.
        folder = unicodedata.normalize("NFC", "Hôpital")
        return f"{folder}/{unicodedata.normalize(form, f'échographie {kind}.png')}"

    save(tmp_path / name(disk, "image"), draw(4, 5))
    save(tmp_path / name(disk, "masque"), box((4, 5), 255))
    write(tmp_path, (name(table, "image"), name(table, "masque"), "p1", "US", "sein"))
    (source,) = MANIFEST.list_sources(tmp_path)
    assert source.name == name(table, "image")
    (case,) = MANIFEST.read_source(source, ReadOptions())
    assert case.mask.sum() == 4


def test_a_letter_of_two_characters_is_the_same_patient(tmp_path):
    write(tmp_path, (*ROW[:2], "Zoe\u0308", *ROW[3:]), ("b.png", ROW[1], "Zo\u00eb", *ROW[3:]))
    first, second = MANIFEST.list_sources(tmp_path)
    assert first.patient == second.patient


def with_cell(column: str, value: str) -> tuple[str, ...]:
    return tuple(value if name == column else cell for name, cell in zip(COLUMNS, ROW, strict=True))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (with_cell("image", ""), "row 3: image is empty"),
        (with_cell("mask", " ; "), "row 3: mask is empty"),
        (with_cell("patient_id", " "), "row 3: patient_id is empty"),
        (with_cell("modality", ""), "row 3: modality is empty"),
        (with_cell("modality", "../x"), r"row 3: modality '../x', expected letters"),
        (with_cell("modality", "x" * 33), "row 3: modality 'x+', expected letters"),
        (with_cell("organ", "x" * 129), "row 3: organ has 129 characters, expected at most 128"),
        (with_cell("image", "x" * 1025), "row 3: image has 1025 characters"),
        (with_cell("organ", "a\nb"), r"row 3: organ contains U\+000A .*control character"),
        (with_cell("image", "a\nb"), "row 3: image contains a line break or control character"),
        (ROW[:4], "row 3: it has 4 cells, expected 5, as many as columns"),
        ((*ROW, "more"), "row 3: it has 6 cells, expected 5, as many as columns"),
        (with_cell("image", "../a.png"), "row 3: a path is not inside the manifest's folder"),
        (with_cell("image", "one/../../a.png"), "row 3: a path is not inside"),
        (with_cell("mask", "a_mask.png;..\\b.png"), "row 3: a path is not inside"),
        (with_cell("image", "/etc/passwd"), "row 3: a path is not inside"),
        (with_cell("image", "C:\\data\\a.png"), "row 3: a path is not inside"),
        (with_cell("image", "\\\\server\\a.png"), "row 3: a path is not inside"),
        (with_cell("image", "."), "row 3: a path is not inside"),
        (with_cell("image", "a_mask.png"), "row 3: image and mask are the same file"),
        (with_cell("image", "first.png"), "row 3: the image of row 2 again; list it once"),
        (with_cell("image", "./x/first.png"), None),
    ],
)
def test_a_wrong_row_is_named(row, message, tmp_path):
    write(tmp_path, ("first.png", *ROW[1:]), row)
    if message is None:
        assert len(MANIFEST.list_sources(tmp_path)) == 2
        return
    with pytest.raises(FlamesError, match=message) as error:
        MANIFEST.list_sources(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (COLUMNS[1:], r"no column image \(expected image, mask, .*, and if known site, split, .*\)"),
        (COLUMNS[:2], "no column patient_id, modality, organ"),
        ((*COLUMNS, "sites"), "unknown column 'sites'; rename it to site, or to a name that is less like it"),
        ((*COLUMNS, "Splitt"), "unknown column 'splitt'; rename it to split"),
        ((*COLUMNS, "frames"), "unknown column 'frames'; rename it to frame"),
        ((*COLUMNS, "mask 2"), "unknown column 'mask_2'; write all masks of an image into the column mask"),
        ((*COLUMNS, "organ"), "column organ exists twice"),
        (("x",), "unknown column 'x'"),
    ],
)
def test_wrong_columns_are_named(columns, message, tmp_path):
    write(tmp_path, columns=columns)
    with pytest.raises(FlamesError, match=message):
        MANIFEST.list_sources(tmp_path)


def write_text(root: Path, text: str, mark: str = "") -> Path:
    (root / "manifest.csv").write_bytes((mark + text).encode())
    return root / "manifest.csv"


def joined(delimiter: str, *rows: Sequence[str]) -> str:
    return "".join(delimiter.join(row) + "\r\n" for row in rows)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|", "^"])
@pytest.mark.parametrize("more", ["", ";;;"])
def test_a_line_that_names_the_delimiter_is_no_row(mark, quote, delimiter, more, tmp_path):
    first = f"{quote}sep={delimiter}{quote}{more}\r\n"
    wrong = (*ROW[:3], "", ROW[4])
    write_text(tmp_path, first + joined(delimiter, COLUMNS, ROW), mark)
    assert [source.name for source in MANIFEST.list_sources(tmp_path)] == ["a.png"]
    write_text(tmp_path, first + joined(delimiter, COLUMNS, ROW, wrong), mark)
    with pytest.raises(FlamesError, match="row 3: modality is empty"):  # as Excel numbers the rows
        MANIFEST.list_sources(tmp_path)


@pytest.mark.parametrize("first", ["sep=", "sep=ab", '"sep="'])
def test_a_line_that_names_no_delimiter_is_rejected(first, tmp_path):
    write_text(tmp_path, first + "\n" + joined(";", COLUMNS, ROW))
    with pytest.raises(FlamesError, match=r"its first line .* names no delimiter, expected one sign"):
        MANIFEST.list_sources(tmp_path)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", " "])
@pytest.mark.parametrize("indexes", [("0", "1", "2"), ("4", "17", "30")])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_index_of_a_data_frame_is_ignored(name, indexes, is_first, tmp_path):
    rows = [(f"{index}.png", f"m{index}.png", f"p{index}", "US", "breast") for index in indexes]
    table = [(name, *COLUMNS), *[(index, *row) for index, row in zip(indexes, rows, strict=True)]]
    write_text(tmp_path, joined(",", *[row if is_first else (*row[1:], row[0]) for row in table]))
    listing = MANIFEST.list_table(tmp_path, None)
    assert [source.patient for source in listing.sources] == [f"p{index}" for index in indexes]
    assert listing.unused_columns == ()


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("x", ""), r"\(row 2: 'x'\)"),
        (("1", "1"), "'1'"),
        (("2", "1"), "'2'"),
        (("", "3"), r"\(row 3: '3'\)"),
    ],
)
def test_a_column_with_content_but_no_name_is_named_by_its_letter(cells, found, tmp_path):
    rows = [(f"{n}.png", f"m{n}.png", f"p{n}", "US", "breast", cell) for n, cell in enumerate(cells)]
    write(tmp_path, *rows, columns=(*COLUMNS, ""))
    with pytest.raises(FlamesError, match=f"column F has content .*{found}.* but no name; name it"):
        MANIFEST.list_sources(tmp_path)


def test_delimiters_at_the_end_of_lines_are_nothing(tmp_path):
    text = joined(";", (*COLUMNS, "", ""), (*ROW, "", ""), ("", "", "", "", "", ""), ("b.png", *ROW[1:]))
    write_text(tmp_path, text + joined(";", ("c.png", *ROW[1:], "", "", "", "", "")))
    assert [source.name for source in MANIFEST.list_sources(tmp_path)] == ["a.png", "b.png", "c.png"]


def test_empty_lines_before_the_names_count_as_rows(tmp_path):
    write_text(tmp_path, ";;;;\n\n" + joined(";", COLUMNS, ROW, ROW))
    with pytest.raises(FlamesError, match="row 5: the image of row 4 again"):
        MANIFEST.list_sources(tmp_path)


def test_other_columns_are_ignored_and_named(tmp_path):
    write(tmp_path, ("67", *ROW, "a\nb"), columns=("Age", *COLUMNS, "Scanner type"))
    listing = MANIFEST.list_table(tmp_path, None)
    assert len(listing.sources) == 1
    assert listing.unused_columns == ("Age", "Scanner type")


def test_columns_that_the_user_keeps_come_with_their_rows(tmp_path):
    rows = [("67", *ROW, "F", "x"), ("", "b.png", "b_mask.png", "p2", "US", "breast", "e\u0301", "y")]
    write(tmp_path, *rows, columns=("Age group", *COLUMNS, "Sex", "note"))
    listing = MANIFEST.list_table(tmp_path, None, ("sex", "Age-Group", "age group"))
    assert [dict(source.extra) for source in listing.sources] == [
        {"sex": "F", "age_group": "67"},
        {"sex": "\u00e9", "age_group": ""},
    ]
    assert listing.unused_columns == ("note",)
    assert all(source.extra == () for source in MANIFEST.list_sources(tmp_path))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("patient_id", "--keep-columns names patient_id, which is read in any case"),
        ("Mask", "--keep-columns names mask, which is read in any case"),
        ("site", "--keep-columns names site, which is read in any case"),
        ("sexx", r"no column sexx to keep, expected one of its columns that are not read \(Sex, MRN\)"),
        ("a" * 41, "--keep-columns names a column of 41 characters, expected at most 40"),
        (
            "a\tb\x01",
            "names a column of 4 characters, expected at most 40 that can be printed",
        ),
        ("mrn", "column mrn repeats the patient_id, expected a column that names no patient"),
    ],
)
def test_a_column_that_cannot_be_kept_is_rejected(keep, message, tmp_path):
    rows = [(*ROW, "F", "p1"), ("b.png", "b_mask.png", "p2", "US", "breast", "M", "p2")]
    write(tmp_path, *rows, columns=(*COLUMNS, "Sex", "MRN"))
    with pytest.raises(FlamesError, match=message):
        MANIFEST.list_table(tmp_path, None, (keep,))


@pytest.mark.parametrize(
    ("cell", "message"),
    [("x" * 129, "sex has 129 characters, expected at most 128"), ("a\nb", "sex contains a line break")],
)
def test_a_kept_cell_that_is_too_long_or_no_line_is_rejected(cell, message, tmp_path):
    write(tmp_path, (*ROW, cell), columns=(*COLUMNS, "Sex"))
    with pytest.raises(FlamesError, match=f"row 2: {message}"):
        MANIFEST.list_table(tmp_path, None, ("sex",))


def test_kept_columns_are_stored_with_their_cases_and_counted(tmp_path):
    rows = []
    for number in range(12):
        name = f"{number}.png"
        save(tmp_path / name, draw(20, 20 + number))
        save(tmp_path / f"m{name}", box((20, 20 + number), 255))
        rows.append((name, f"m{name}", f"p{number}", "US", "breast", "FM"[number % 2], f"{number // 11}"))
    write(tmp_path, *rows, columns=(*COLUMNS, "Sex", "Age group"))
    config = PreprocessConfig(
        workspace=tmp_path / "ws", raw={"manifest": tmp_path}, size=16, keep_columns=("sex", "age group")
    )
    (report,) = preprocess(config, "manifest")
    assert report["kept_columns"] == {
        "sex": {"values": 2, "of_one_patient": 0},
        "age_group": {"values": 2, "of_one_patient": 1},
    }
    cases = reveal_cases(tmp_path / "ws" / "preprocessed" / f"{report['dataset']}.h5")
    found = {case.patient: case.extra for own in cases.values() for case in own}
    assert found == {f"p{n}": {"sex": "FM"[n % 2], "age_group": f"{n // 11}"} for n in range(12)}


def test_names_of_columns_may_have_capitals_and_blanks(tmp_path):
    write(tmp_path, ROW, columns=(" Image", "MASK ", "Patient ID", "Modality\u00a0", "organ"))
    assert len(MANIFEST.list_sources(tmp_path)) == 1


def test_a_mask_of_two_patients_is_an_error_with_both_rows(tmp_path):
    save(tmp_path / "m.png", box((8, 8)))
    os.link(tmp_path / "m.png", tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to(tmp_path / "m.png")
    for again in ("m.png", ".\\m.png", "./m.png", "hard.png", "soft.png", "other.png;soft.png", "gone.png"):
        first = again if again == "gone.png" else "m.png"
        write(tmp_path, ("a.png", first, *ROW[2:]), ("b.png", again, "p2", *ROW[3:]))
        with pytest.raises(FlamesError, match="row 3: the mask of row 2 again, but of another patient_id"):
            MANIFEST.list_sources(tmp_path)
        write(tmp_path, ("a.png", first, *ROW[2:]), ("b.png", again, *ROW[2:]))
        assert len(MANIFEST.list_sources(tmp_path)) == 2, "T1 and T2 of one patient share a mask"


def test_a_mask_that_is_the_image_of_another_row_is_an_error(tmp_path):
    write(tmp_path, ("a.png", "b.png", *ROW[2:]), ("c.png", "a.png", *ROW[2:]))
    with pytest.raises(FlamesError, match="row 3: its mask is the image of row 2; give the mask's own file"):
        MANIFEST.list_sources(tmp_path)


@pytest.mark.parametrize("cell", ["nan", "NULL", "#N/A", "-", "Normal", "a.png;nan"])
def test_a_word_in_place_of_a_mask_names_the_word_for_no_lesion(cell, tmp_path):
    write(tmp_path, ("i.png", cell, *ROW[2:]))
    with pytest.raises(FlamesError, match=r"row 2: mask '.*' is no file, expected one; write none if"):
        MANIFEST.list_sources(tmp_path)


@pytest.mark.parametrize("cell", ["none", "None", "none;"])
def test_the_word_none_is_no_file(cell, tmp_path):
    write(tmp_path, ("i.png", cell, *ROW[2:]))
    (source,) = MANIFEST.list_sources(tmp_path)
    assert source.is_healthy
    assert source.masks == ()


def test_files_may_be_in_another_folder_than_the_manifest(tmp_path):
    files, home = tmp_path / "pacs", tmp_path / "home"
    home.mkdir()
    save(files / "in" / "a.png", draw(8, 8))
    save(files / "m.png", box((8, 8)))
    write(home, ("in/a.png", "m.png", *ROW[2:]))
    (source,) = MANIFEST.list_table(home, files).sources
    assert (source.name, source.image) == ("in/a.png", files / "in" / "a.png")
    assert len(MANIFEST.read_source(source, ReadOptions())) == 1
    save(home / "b.png", draw(8, 8))
    (files / "out.png").symlink_to(home / "b.png")
    for outside in ("../home/b.png", "out.png", str(files / "in" / "a.png")):
        write(home, (outside, "m.png", *ROW[2:]))
        with pytest.raises(FlamesError, match="row 2: a path is not inside the folder of --root; give paths"):
            MANIFEST.list_table(home, files)


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("split", ("train", "holdout"), "row 3: split 'holdout', expected train, val, test, server"),
        ("split", ("train", ""), "row 3: split is empty, but not in every row; fill it in all, or in none"),
        ("site", ("", "Köln"), "row 2: site is empty, but not in every row"),
        ("split", ("train", "test"), "row 3: patient p1 is in another split than in row 2"),
    ],
)
def test_optional_columns_are_filled_in_all_rows_or_none(column, cells, message, tmp_path):
    write(tmp_path, (*ROW, cells[0]), ("b.png", *ROW[1:], cells[1]), columns=(*COLUMNS, column))
    with pytest.raises(FlamesError, match=message):
        MANIFEST.list_sources(tmp_path)


def test_a_few_faults_are_listed_and_the_rest_are_counted(tmp_path):
    write(tmp_path, *[(f"{number}.png", "", *ROW[2:]) for number in range(12)])
    with pytest.raises(
        FlamesError, match=r"row 2: mask is empty, .*; row 6: mask is empty, .* none; and 7 more$"
    ):
        MANIFEST.list_sources(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ",".join(COLUMNS).encode() + "\na.png,m.png,Jürgen,US,breast\n".encode("latin-1"),
            r"UTF-8 \(row 2\)",
        ),
        (
            ",".join(COLUMNS).encode("utf-16"),
            "zero bytes, so it is UTF-16 or not text; save it as 'CSV UTF-8'",
        ),
        (",".join(COLUMNS).encode() + b'\na.png,"m.png,p1,US,breast\n', "row 2 is not CSV"),
        (b"", "no column image"),
        (b"\n\n\n", "no column image"),
        (b"image|mask|patient_id|modality|organ\n", "no column image"),
    ],
)
def test_a_file_that_is_not_such_a_table_is_rejected(content, message, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(FlamesError, match=message):
        MANIFEST.list_sources(tmp_path)


def test_a_manifest_that_is_a_folder_is_rejected(tmp_path):
    (tmp_path / "manifest.csv").mkdir()
    with pytest.raises(FlamesError, match="cannot be read"):
        MANIFEST.list_sources(tmp_path)


def test_links_may_lead_elsewhere_inside_the_folder_but_not_out_of_it(tmp_path):
    home = tmp_path / "home"
    (home / "deep").mkdir(parents=True)
    for target in (tmp_path / "out.png", home / "in.png"):
        save(target, draw(8, 8))
    (home / "deep" / "link.png").symlink_to(home / "in.png")
    write(home, ("deep/link.png", *ROW[1:]))
    assert len(MANIFEST.list_sources(home)) == 1
    write(home, ("deep/link.png", *ROW[1:]), ("in.png", *ROW[1:]))
    with pytest.raises(FlamesError, match="row 3: the image of row 2 again"):
        MANIFEST.list_sources(home)
    for target in (tmp_path / "out.png", tmp_path):
        (home / "deep" / "link.png").unlink()
        (home / "deep" / "link.png").symlink_to(target)
        for path in ("deep/link.png", "deep"):
            write(home, (path, *ROW[1:]))
            with pytest.raises(FlamesError, match="row 2: a path is not inside the manifest's folder"):
                MANIFEST.list_sources(home)


def test_links_in_a_circle_are_rejected(tmp_path):
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    write(tmp_path, ROW)
    with pytest.raises(FlamesError, match=r"a path is not inside|cannot be read"):
        read_one(tmp_path)


HEADER = ",".join(COLUMNS)
cells = st.text(st.sampled_from("a.b/\\;:\"' \n\r\tC~é\u0308,\x00\x1f\u200b"), max_size=12)
tables = st.lists(st.lists(cells, min_size=4, max_size=7).map(",".join), max_size=4).map("\n".join)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | tables.map(lambda text: f"{HEADER}\n{text}".encode()))
def test_whatever_the_bytes_there_are_sources_or_one_error(content, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(content)
    try:
        sources = MANIFEST.list_sources(tmp_path)
    except FlamesError:
        return
    for source in sources:
        with pytest.raises((BadCase, SkippedCase)):
            MANIFEST.read_source(source, ReadOptions())


def write_still(root: Path, image: np.ndarray, *masks: np.ndarray, suffix: str = ".png") -> Path:
    names = [f"m{number}.png" for number in range(len(masks))]
    save(root / f"a{suffix}", image)
    for name, mask in zip(names, masks, strict=True):
        save(root / name, mask)
    return write(root, (f"a{suffix}", ";".join(names), *ROW[2:]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".tif", ".TIFF"])
def test_stills_are_read_in_grey_or_colour(suffix, tmp_path):
    write_still(tmp_path, draw(20, 30, 3), box((20, 30), 255), suffix=suffix)
    (grey,) = read_one(tmp_path)
    (colour,) = read_one(tmp_path, ReadOptions(colour=True))
    assert (grey.image.shape, grey.image.dtype, grey.max_value) == ((20, 30), np.uint8, 255)
    assert colour.image.shape == (20, 30, 3)
    assert (grey.case, grey.patient, grey.slice_index, grey.place) == ("a", "p1", -1, None)
    assert grey.mask.sum() == 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_stills_of_sixteen_bits_keep_their_depth(suffix, tmp_path):
    image = draw(20, 30, dtype=np.uint16, high=40_000)
    write_still(tmp_path, image, box((20, 30)), suffix=suffix)
    (case,) = read_one(tmp_path, ReadOptions(percentile=90))
    np.testing.assert_array_equal(case.image, image)
    assert case.image.dtype == np.uint16
    assert (case.low, case.high, case.max_value) == (0.0, np.percentile(image, 90), 4095)
    (case,) = read_one(tmp_path, ReadOptions(windows={"US": (100, 900)}, colour=True))
    assert (case.low, case.high, case.image.shape) == (100, 900, (20, 30, 3))


def test_the_only_label_of_each_mask_is_tumour(tmp_path):
    first, second = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint16)
    first[2, 3], first[4, 5], second[6, 7] = 200, 200, 1
    write_still(tmp_path, draw(20, 30), first, second)
    (case,) = read_one(tmp_path)
    assert np.argwhere(case.mask).tolist() == [[2, 3], [4, 5], [6, 7]]


def test_a_mask_saved_as_jpeg_needs_a_threshold(tmp_path):
    mask = np.full((16, 16), 30, np.uint8)
    mask[:, 7:] = 220
    save(tmp_path / "a.png", draw(16, 16))
    save(tmp_path / "m.jpg", mask)
    write(tmp_path, ("a.png", "m.jpg", *ROW[2:]))
    with pytest.raises(BadCase, match=r"^m\.jpg: the mask (is soft|has \d+ labels)"):
        read_one(tmp_path)
    (case,) = read_one(tmp_path, ReadOptions(mask_threshold="half"))
    np.testing.assert_array_equal(case.mask, mask > 128)


def test_an_empty_mask_is_skipped(tmp_path):
    write_still(tmp_path, draw(8, 8), np.zeros((8, 8), np.uint8))
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


def test_a_black_image_of_sixteen_bits_is_bad(tmp_path):
    write_still(tmp_path, np.zeros((8, 8), np.uint16), box((8, 8)))
    with pytest.raises(BadCase, match=r"a.png: its 95th intensity percentile is 0"):
        read_one(tmp_path)


def test_a_mask_of_another_size_is_bad(tmp_path):
    write_still(tmp_path, draw(8, 8), box((8, 9)))
    with pytest.raises(BadCase, match=r"m0.png: the mask is 8×9, its image 8×8"):
        read_one(tmp_path)


def test_a_tiff_of_several_pages_is_bad(tmp_path):
    write_still(tmp_path, draw(8, 8), box((8, 8)), suffix=".tif")
    pages = [Image.fromarray(draw(8, 8)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadCase, match=r"a.tif: it contains 3 pages, expected one image"):
        read_one(tmp_path)


def test_a_tiff_without_its_width_is_bad(tmp_path):
    write_still(tmp_path, draw(8, 8), box((8, 8)), suffix=".tif")
    content = (tmp_path / "a.tif").read_bytes()
    width, other = (256).to_bytes(2, "little"), (254).to_bytes(2, "little")
    start = int.from_bytes(content[4:8], "little")
    (tmp_path / "a.tif").write_bytes(content[:start] + content[start:].replace(width, other, 1))
    with pytest.raises(BadCase, match=r"a.tif: cannot be read as an image"):
        read_one(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_image_of_thirty_two_bits_is_bad(dtype, tmp_path):
    write_still(tmp_path, draw(8, 8, dtype=dtype, high=10**6), box((8, 8)), suffix=".tif")
    with pytest.raises(BadCase, match=r"a.tif: its pixels are numbers of 32 bits"):
        read_one(tmp_path)


@pytest.mark.parametrize("mask", ["m0.png", "a.jpg"])
def test_a_file_of_another_format_is_bad_whatever_its_name(mask, tmp_path):
    write_still(tmp_path, draw(8, 8), box((8, 8)))
    Image.fromarray(draw(8, 8)).save(tmp_path / mask, format="EPS")
    write(tmp_path, ("a.png", mask, *ROW[2:]))
    with pytest.raises(BadCase, match="cannot be read as an image"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ("a.png", "gone.png", "gone.png: there is no such file"),
        ("gone.png", "m.png", "gone.png: there is no such file"),
        ("gone", "m.png", "gone: there is no such file or folder"),
        ("gone.nii.gz", "v.nii", "gone.nii.gz: there is no such file"),
        ("gone.dcm", "v.nii", "gone.dcm: there is no such file"),
        ("a.mha", "m.png", "a.mha: expected PNG, JPEG, TIFF, BMP, NIfTI, .dcm, or a folder"),
        ("a.png", "v.nii", "v.nii: the mask is a volume, its image a still"),
        ("v.nii", "m.png", "m.png: the mask is a still, its image a volume"),
        ("empty", "v.nii", "empty: no DICOM files in it"),
    ],
)
def test_files_that_do_not_go_together_are_bad(image, mask, message, tmp_path):
    save(tmp_path / "a.png", draw(8, 8))
    save(tmp_path / "m.png", box((8, 8)))
    nifti(tmp_path / "v.nii", box(SHAPE))
    (tmp_path / "a.mha").write_text("junk")
    (tmp_path / "empty").mkdir()
    write(tmp_path, (image, mask, *ROW[2:]))
    with pytest.raises(BadCase, match=message):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        (
            "a.jp2",
            b"\0\0\0\x0cjP  \r\n\x87\n",
            "its content is JPEG 2000, .*; convert it to PNG$",
        ),
        ("a.gif", b"GIF89a", "its content is GIF, expected PNG.*; convert it to PNG$"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "its content is WebP, .*; convert it to PNG$"),
        ("a.nrrd", b"NRRD0004\n", "its content is NRRD, .*; convert it to NIfTI"),
        ("a.mha", b"ObjectType = Image\n", "its content is MetaImage .*; convert it to NIfTI"),
        ("a.xyz", b"junk", "expected PNG.*; convert it to one of these$"),
        ("a.png", b"GIF89a", r"cannot be read as an image \(its content is GIF; convert it to PNG\)"),
        ("a.png", b"<html>", r"cannot be read as an image \(its content is a web page or XML; fetch"),
        ("a.jpg", bytes(128) + b"DICM", r"cannot be read as an image \(its content is DICOM; name it .dcm\)"),
        ("a.nii", b"\x89PNG\r\n\x1a\n", r"cannot be read as NIfTI \(its content is PNG; name it .png\)"),
        ("a.nii", b"\x5c\x01\0\0", r"cannot be read as NIfTI \(.*Analyze; convert it to .nii\)"),
        ("a.nii.gz", b"version https://git-lfs", r"cannot be read as NIfTI \(.*git lfs pull\)"),
    ],
)
def test_a_file_of_another_format_is_named_by_its_content(name, start, message, tmp_path):
    (tmp_path / name).write_bytes(start + bytes(400))
    write(tmp_path, (name, name.replace("a", "m", 1), *ROW[2:]))
    with pytest.raises(BadCase, match=rf"^{re.escape(name)}: {message}"):
        read_one(tmp_path)


def test_a_volume_that_is_named_as_a_still_is_called_a_volume(tmp_path):
    nifti(tmp_path / "v.nii", box(SHAPE))
    (tmp_path / "v.nii").rename(tmp_path / "a.png")
    write(tmp_path, ROW)
    with pytest.raises(BadCase, match=r"a.png: .* \(its content is NIfTI; name it .nii"):
        read_one(tmp_path)


def test_a_file_without_a_suffix_is_read_by_its_content(tmp_path):
    save(tmp_path / "a.png", draw(8, 8))
    save(tmp_path / "m.png", box((8, 8)))
    for name in ("a", "m"):
        (tmp_path / f"{name}.png").rename(tmp_path / name)
    write(tmp_path, ("a", "m", *ROW[2:]))
    (case,) = read_one(tmp_path)
    np.testing.assert_array_equal(case.image, draw(8, 8))


def bmp(pixels: np.ndarray) -> bytes:
    """Return H×W grey or H×W×3 RGB as a BMP without compression, by bytes."""
    height, width = pixels.shape[:2]
    bits = 8 if pixels.ndim == 2 else 24
    palette = b"".join(bytes([grey] * 3 + [0]) for grey in range(256)) if bits == 8 else b""
    rows = [row.tobytes() if bits == 8 else row[:, ::-1].tobytes() for row in pixels[::-1]]
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(body), 0, 0, len(palette) // 4, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


@pytest.mark.parametrize("name", ["a.bmp", "a.BMP"])
def test_bmp_is_a_still_for_images_and_masks(name, tmp_path):
    colours = derive_rng(0, "bmp").integers(0, 256, (7, 9, 3)).astype(np.uint8)
    (tmp_path / name).write_bytes(bmp(colours))
    (tmp_path / "m.bmp").write_bytes(bmp(box((7, 9), 255)))
    write(tmp_path, (name, "m.bmp", *ROW[2:]))
    (case,) = read_one(tmp_path, ReadOptions(colour=True))
    np.testing.assert_array_equal(case.image, colours)
    np.testing.assert_array_equal(case.mask, box((7, 9)))


def volume() -> np.ndarray:
    return derive_rng(0, "volume").integers(-900, 900, SHAPE).astype(np.int16)


@pytest.mark.parametrize("image", ["scan 1/CT.nii.gz", "scan 1/CT Schädel"])
@pytest.mark.parametrize("mask", ["m.nii", "turned.nii.gz", "seg.dcm", "series"])
def test_every_kind_of_volume_goes_with_every_kind_of_mask(image, mask, tmp_path):
    voxels, tumour = volume(), box(SHAPE)
    slices = write_series(tmp_path / "scan 1/CT Schädel", voxels, LPS, "CT", "p1", intercept=-1024)
    nifti(tmp_path / "scan 1/CT.nii.gz", voxels)
    nifti(tmp_path / "m.nii", tumour * 7)
    turn = np.diag([1.0, -1.0, 1.0, 1.0])
    turn[1, 3] = SHAPE[1] - 1
    nifti(tmp_path / "turned.nii.gz", tumour[:, ::-1], LPS @ turn)
    write_segmentation(tmp_path / "seg.dcm", slices, tumour)
    write_series(tmp_path / "series", tumour, LPS, "MR", "p1")
    write(tmp_path, (image, mask, "p1", "CT", "head"))
    first, second = read_one(tmp_path)
    assert [first.case, second.case] == [f"{image}/z001", f"{image}/z002"]
    np.testing.assert_array_equal(first.image, np.rot90(voxels[::-1, ::-1, 1]))
    np.testing.assert_array_equal(first.mask, np.rot90(tumour[::-1, ::-1, 1]))
    assert (first.low, first.high, first.max_value) == (-160, 240, 4095)
    assert (first.spacing_mm, first.place.axes) == ((2.0, 1.0), "LPS")


def test_masks_of_a_volume_are_joined_and_options_hold(tmp_path):
    nifti(tmp_path / "v.nii", np.abs(volume()))
    for name, index in (("one.nii", 1), ("two.nii", 3)):
        mask = np.zeros(SHAPE, np.uint8)
        mask[2, 2, index] = 1
        nifti(tmp_path / name, mask)
    write(tmp_path, ("v.nii", "one.nii;two.nii", "p1", "mr", "head"))
    assert [case.slice_index for case in read_one(tmp_path)] == [1, 3]
    assert [case.slice_index for case in read_one(tmp_path, ReadOptions(slices="all"))] == [0, 1, 2, 3, 4]
    (case,) = read_one(tmp_path, ReadOptions(plane="sagittal", windows={"MRI": (5, 50)}))
    assert (case.case, case.low, case.high) == ("v.nii/x004", 5, 50)


def test_a_mask_on_another_grid_is_bad(tmp_path):
    nifti(tmp_path / "v.nii", volume())
    nifti(tmp_path / "m.nii", box(SHAPE), LPS @ np.diag([1.0, 1.0, 2.0, 1.0]))
    write(tmp_path, ("v.nii", "m.nii", "p1", "CT", "head"))
    with pytest.raises(
        BadCase, match=r"v.nii: the mask's header places it up to 12.0 mm from its image's voxels"
    ):
        read_one(tmp_path)


def test_people_of_a_real_manifest_are_in_one_set_in_both_modalities(tmp_path):
    path = find_shared("data/sts") / "manifest.csv"
    slices = {"STS_001": 31, "STS_002": 16, "STS_003": 20, "STS_004": 53, "STS_005": 47}
    reports = preprocess(PreprocessConfig(workspace=tmp_path, raw={"manifest": path}, size=96), "manifest")
    assert [report["dataset"] for report in reports] == ["sts-ct", "sts-mri"]
    assert [report["modality"] for report in reports] == ["CT", "MRI"]
    assert [report["sources"] for report in reports] == [5, 5]
    assert not any(report["bad"] or report["skipped"] for report in reports)
    for report in reports:
        sets = reveal_cases(tmp_path / "preprocessed" / f"{report['dataset']}.h5")
        assert Counter(case.patient for cases in sets.values() for case in cases if case.selected) == slices
    ct, mri = (patients_of(tmp_path, report["dataset"]) for report in reports)
    assert ct == mri
    assert [len(ct[name]) for name in ("client_train", "client_test", "server_test")] == [3, 1, 1]


def test_real_volumes_have_the_window_of_their_modality():
    sources = MANIFEST.list_sources(find_shared("data/sts"))
    ct, mri = (MANIFEST.read_source(source, ReadOptions()) for source in sources[2:4])
    tumour = np.asanyarray(nib.load(sources[2].masks[0]).dataobj) > 0
    assert [case.slice_index for case in ct] == np.flatnonzero(tumour.any(axis=(0, 1))).tolist()
    assert sum(int(case.mask.sum()) for case in ct) == tumour.sum()
    assert (ct[0].low, ct[0].high) == (-160, 240)
    assert ct[0].image.min() < -500, "in Hounsfield units"
    assert (mri[0].low, mri[0].high > 0, mri[0].max_value) == (0, True, 4095)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    return draw_manifest(tmp_path_factory.mktemp("hospital"), 12, 0)


def patients_of(workspace: Path, dataset: str) -> dict[str, set[str]]:
    """Return {set: patients} under the names of the manifest."""
    sets = reveal_cases(workspace / "preprocessed" / f"{dataset}.h5")
    return {name: {case.patient for case in cases} for name, cases in sets.items()}


def test_the_phantom_gives_the_sets_of_a_hospital(hospital, tmp_path):
    config = PreprocessConfig(workspace=tmp_path, raw={"manifest": hospital}, size=32)
    ct, mri = preprocess(config, "manifest")
    assert [ct["dataset"], mri["dataset"]] == ["eigene-daten-ct", "eigene-daten-mri"]
    assert set(ct["sites"]) == set(mri["sites"]) == {"Klinik Süd", "Hôpital Nord"}
    assert sum(count["patients"] for count in ct["sites"].values()) == 12
    assert sum(count["patients"] for count in mri["sites"].values()) == 9
    everybody: dict[str, str] = {}
    for report in (ct, mri):
        for name, patients in patients_of(tmp_path, report["dataset"]).items():
            assert all(everybody.setdefault(patient, name) == name for patient in patients)


def test_the_same_phantom_has_the_same_bytes(hospital, tmp_path):
    again = draw_manifest(tmp_path, 3, 0)
    files = [path for path in again.rglob("*") if path.is_file() and path.name != "manifest.csv"]
    assert len(files) > 20
    for path in files:
        assert path.read_bytes() == (hospital / path.relative_to(again)).read_bytes()


def test_a_manifests_own_split_is_kept(hospital, tmp_path):
    with (hospital / "manifest.csv").open(encoding="utf-8-sig", newline="") as stream:
        names, *rows = csv.reader(stream)
    said = {f"P{number:03d}": ("train", "val", "test", "server")[number // 2 % 4] for number in range(1, 13)}
    root = Path(shutil.copytree(hospital, tmp_path / "raw"))
    write(root, *[(*row, said[row[2]]) for row in rows], columns=(*names, "split"))
    config = PreprocessConfig(workspace=tmp_path, raw={"manifest": root}, size=32, name="own")
    preprocess(config, "manifest")
    for dataset, absent in (("own-ct", set()), ("own-mri", {"P004", "P008", "P012"})):
        expected = {
            own: {patient for patient, name in said.items() if name == split} - absent
            for split, own in SPLITS.items()
        }
        assert patients_of(tmp_path, dataset) == expected


def test_deep_stills_are_preprocessed_and_their_copies_found(tmp_path):
    rows = []
    for number in range(10):
        image = draw(20, 30 + number % 9, dtype=np.uint16, high=60_000)
        save(tmp_path / f"{number}.png", image)
        save(tmp_path / f"m{number}.png", box(image.shape))
        rows.append((f"{number}.png", f"m{number}.png", f"p{number}", "US", "breast"))
    raw = {"manifest": write(tmp_path, *rows)}
    (report,) = preprocess(
        PreprocessConfig(workspace=tmp_path / "made", raw=raw, size=32, name="deep"), "manifest"
    )
    told = reveal_report(tmp_path / "made" / "preprocessed" / "deep.h5", report)
    assert told["copies_left_out"] == [{"name": "9.png", "same_as": "0.png"}]
    assert sum(count["images"] for count in report["sets"].values()) == 9


def test_kinds_that_would_have_one_name_are_rejected(tmp_path):
    write(tmp_path, (*ROW[:4], "soft tissue"), ("b.png", *ROW[1:4], "soft-tissue"))
    (tmp_path / "b.png").touch()
    config = PreprocessConfig(workspace=tmp_path, raw={"manifest": tmp_path}, size=32, name="own")
    with pytest.raises(
        FlamesError, match="US of soft tissue and US of soft-tissue would both be called own-us-soft"
    ):
        preprocess(config, "manifest")


FRAMES = (*COLUMNS, "frame")


def test_frames_of_one_clip_are_sources_of_their_own(tmp_path):
    rows = [("a.dcm", "m.png", "p1", "US", "breast", frame) for frame in ("1", "12", "")]
    write(tmp_path, *rows, columns=FRAMES)
    sources = MANIFEST.list_sources(tmp_path)
    assert [source.frame for source in sources] == [1, 12, 0]
    assert [source.name for source in sources] == ["a.dcm frame 1", "a.dcm frame 12", "a.dcm"]
    assert [source.case for source in sources] == ["a/frame1", "a/frame12", "a"]


def test_a_frame_and_a_file_of_the_same_name_are_two_cases(tmp_path):
    rows = [
        ("a.dcm", "m.png", "p1", "US", "breast", "1"),
        ("a/frame1.png", "m.png", "p1", "US", "breast", ""),
    ]
    write(tmp_path, *rows, columns=FRAMES)
    cases = [source.case for source in MANIFEST.list_sources(tmp_path)]
    assert cases == ["a.dcm/frame1", "a/frame1.png"]


@pytest.mark.parametrize("frame", ["0", "-1", "1.5", "x", "\u0661"])
def test_a_frame_is_a_whole_number(frame, tmp_path):
    write(tmp_path, (*ROW, frame), columns=FRAMES)
    with pytest.raises(
        FlamesError, match=r"row 2: frame .*, expected a whole number from 1, or an empty cell"
    ):
        MANIFEST.list_sources(tmp_path)


def test_one_frame_is_listed_once_and_one_clip_is_of_one_patient(tmp_path):
    rows = [("a.dcm", "m.png", "p1", "US", "breast", "1"), ("a.dcm", "m.png", "p1", "US", "breast", "1")]
    write(tmp_path, *rows, columns=FRAMES)
    with pytest.raises(FlamesError, match="row 3: the image of row 2 again"):
        MANIFEST.list_sources(tmp_path)
    write(tmp_path, rows[0], ("a.dcm", "n.png", "p2", "US", "breast", "2"), columns=FRAMES)
    with pytest.raises(FlamesError, match="row 3: a frame of the clip of row 2, but of another patient_id"):
        MANIFEST.list_sources(tmp_path)


KEEP = ReadOptions(keep_empty=True)


@pytest.mark.parametrize("word", ["none", "None", " NONE "])
def test_the_word_none_is_the_mask_of_an_image_without_a_lesion(word, tmp_path):
    save(tmp_path / "a.png", draw(9, 8))
    write(tmp_path, ("a.png", word, *ROW[2:]))
    (source,) = MANIFEST.list_sources(tmp_path)
    assert (source.masks, source.is_healthy) == ((), True)
    (case,) = read_one(tmp_path, KEEP)
    assert case.mask.shape == (9, 8)
    assert not case.mask.any()
    with pytest.raises(SkippedCase, match="the manifest states that there is no lesion"):
        read_one(tmp_path)


def test_a_volume_may_have_the_mask_none(tmp_path):
    nifti(tmp_path / "a.nii.gz", draw(*SHAPE, dtype=np.int16))
    write(tmp_path, ("a.nii.gz", "none", "p1", "MRI", "brain"))
    cases = read_one(tmp_path, KEEP)
    assert [case.slice_index for case in cases] == list(range(SHAPE[2]))
    assert not any(case.mask.any() for case in cases)


def test_a_mask_of_zeros_is_an_image_without_a_lesion_too(tmp_path):
    save(tmp_path / "a.png", draw(9, 8))
    save(tmp_path / "a_mask.png", np.zeros((9, 8), np.uint8))
    write(tmp_path, ROW)
    (case,) = read_one(tmp_path, KEEP)
    assert not case.mask.any()
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


def test_none_next_to_a_mask_is_a_fault_of_the_row(tmp_path):
    write(tmp_path, ("a.png", "a_mask.png; None", *ROW[2:]))
    with pytest.raises(FlamesError, match="row 2: mask is the word none and a file, expected none alone"):
        MANIFEST.list_sources(tmp_path)
