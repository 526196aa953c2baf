"""Files of a kind that was misread: the small inputs that showed it."""

from tests.support.cases import check_manifest, find_manifest, preprocess_manifest


def test_white_is_zero_tiffs_are_found_to_be_copies_of_their_twins(tmp_path):
    checked = check_manifest(find_manifest("tiff16-white-is-zero"), tmp_path)
    assert checked.codes["copies-across-patients"] == "problem"
    assert checked.text_of("copies-across-patients").startswith("3 pictures are present twice")
    assert checked.report["counts"]["usable"] == 6


def test_nifti_2_is_read(tmp_path):
    checked = check_manifest(find_manifest("nifti2"), tmp_path, size=48)
    assert (checked.report["counts"]["usable"], checked.report["counts"]["bad"]) == (4, 0)
    drawn = (89 + 149 + 89) / 3 / (48 * 44)
    (group,) = [group for group in checked.report["groups"] if group["site"] is None]
    assert group["lesions"]["share"]["max"] == 149 / (48 * 44) > drawn > group["lesions"]["share"]["min"]


def test_a_table_as_excel_leaves_it_is_read(tmp_path):
    manifest = find_manifest("csv-of-excel")
    checked = check_manifest(manifest, tmp_path)
    assert (checked.error, checked.report["counts"]["usable"]) == ("", 5)
    assert "unused-columns" not in checked.codes
    assert preprocess_manifest(manifest, tmp_path).report["sources"] == 5


def test_one_mask_for_all_patients_is_an_error_with_the_rows(tmp_path):
    manifest = find_manifest("one-mask-for-all-patients")
    for checked in (check_manifest(manifest, tmp_path), preprocess_manifest(manifest, tmp_path)):
        assert "row 3: the mask of row 2 again, but of another patient_id" in checked.error
        assert "row 6: the mask of row 2 again" in checked.error
    assert list(tmp_path.rglob("*.h5")) == []


def test_columns_that_are_not_used_are_named(tmp_path):
    case = find_manifest("csv-of-excel")
    text = case.read_text("utf-8-sig").replace("organ;;", "organ;Age;scanner")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(text, "utf-8")
    checked = check_manifest(manifest, tmp_path, root=case.parent)
    assert checked.codes["unused-columns"] == "note"
    assert "not used: Age, scanner" in checked.text_of("unused-columns")
    made = preprocess_manifest(manifest, tmp_path, root=case.parent)
    assert made.report["unused_columns"] == ["Age", "scanner"]
    assert str(case.parent) not in str(made.report), "the report leaves the site"


def test_a_table_none_of_whose_images_is_there_is_an_error_that_names_root(tmp_path):
    case = find_manifest("csv-of-excel")
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(case.read_bytes())
    for checked in (check_manifest(manifest, tmp_path), preprocess_manifest(manifest, tmp_path)):
        assert checked.error.startswith("none of the ")
        assert "name the folder of the images with --root" in checked.error
    assert list(tmp_path.rglob("*.h5")) == []
    assert not check_manifest(manifest, tmp_path, root=case.parent).error
