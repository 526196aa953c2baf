"""Ids of patients: one person under two spellings, and ids that are none."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.core.pseudonyms import pseudonym
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.h5 import read_preprocessed_cases
from flames_cli.store.salts import read_salt
from tests.support.asserts import read_csv
from tests.support.cases import check_manifest, find_manifest, preprocess_manifest
from tests.support.datasets import reveal_report

SIDE = 32


def write_manifest(folder: Path, *patients: str, **columns: tuple[str, ...]) -> Path:
    """Write a manifest with an ultrasound image of noise for each of `patients`, and further columns."""
    rows = [("image", "mask", "patient_id", "modality", "organ", *columns)]
    folder.mkdir(exist_ok=True)
    for number, patient in enumerate(patients):
        pixels = derive_rng(0, "patients", folder.name, number).integers(1, 255, (SIDE, SIDE), np.uint8)
        Image.fromarray(pixels).save(folder / f"i{number}.png")
        Image.fromarray(np.uint8(np.pad(np.ones((12, 12)), 10))).save(folder / f"m{number}.png")
        more = [column[number] for column in columns.values()]
        rows.append((f"i{number}.png", f"m{number}.png", patient, "US", "breast", *more))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "manifest.csv"


def preprocess_named(manifest: Path, workspace: Path, name: str) -> None:
    made = preprocess_manifest(manifest, workspace, size=SIDE, name=name)
    assert not made.error


def sets_of(workspace: Path) -> dict[str, str]:
    """Return the set of each image."""
    _, sets = read_preprocessed_cases(workspace / "preprocessed" / "case.h5")
    with (workspace / "private" / "case.csv").open(encoding="utf-8", newline="") as file:
        sources = {row["name"]: row["source"] for row in csv.DictReader(file)}
    return {sources[case.case]: own for own, cases in sets.items() for case in cases}


def test_ids_of_a_spreadsheet_are_rejected_with_their_rows(tmp_path):
    manifest = find_manifest("patient-ids-of-a-spreadsheet")
    for run in (check_manifest, preprocess_manifest):
        error = run(manifest, tmp_path).error
        for row in ("row 2: patient_id 'nan'", "row 3: patient_id 'nan'", "row 4: patient_id '1.23E+11'"):
            assert row in error
    assert not any(tmp_path.iterdir())


def test_ids_spelt_two_ways_are_a_problem_and_never_in_two_sets(tmp_path):
    manifest = find_manifest("patient-ids-spelt-two-ways")
    checked = check_manifest(manifest, tmp_path)
    assert not checked.report["passed"]
    assert checked.codes["ids-alike"] == "problem"
    text = checked.text_of("ids-alike")
    for pair in (
        "'007' in i0.png and '7' in i1.png",
        "'Pat-02' in i2.png and 'pat-02' in i3.png",
        "'P 03' in i4.png and 'P03' in i5.png",
    ):
        assert pair in text
    made = preprocess_manifest(manifest, tmp_path)
    kept = reveal_report(tmp_path / "preprocessed" / "case.h5", made.report)["ids_alike_kept_together"]
    assert kept == [["007", "7"], ["Pat-02", "pat-02"], ["P 03", "P03"]]
    sets = sets_of(tmp_path)
    assert all(sets[f"i{n}.png"] == sets[f"i{n + 1}.png"] for n in (0, 2, 4))
    assert len(set(sets.values())) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [("4.0", "4"), ("\u0410-1", "A-1"), ("Ｐ1", "p1"), ("P_1", "P.01"), ("943 476 5919", "9434765919")],
)
def test_siblings_of_ids_spelt_two_ways_are_a_problem_and_kept_together(one, other, tmp_path):
    manifest = write_manifest(tmp_path / "raw", one, other, "B", "C", "D", "E")
    checked = check_manifest(manifest, tmp_path, size=SIDE)
    assert checked.codes["ids-alike"] == "problem"
    assert [place["cases"] for found in checked.report["findings"] for place in found["where"]] == [
        ["i0.png", "i1.png"]
    ]
    made = preprocess_manifest(manifest, tmp_path, size=SIDE)
    assert len(made.report["ids_alike_kept_together"]) == 1
    sets = sets_of(tmp_path)
    assert sets["i0.png"] == sets["i1.png"]


def test_a_look_alike_letter_is_named(tmp_path):
    checked = check_manifest(write_manifest(tmp_path / "raw", "\u0410-1", "A-1", "B"), tmp_path, size=SIDE)
    assert "'\u0410-1' (with U+0410 CYRILLIC CAPITAL LETTER A) in i0.png" in checked.text_of("ids-alike")


def test_ids_alike_at_two_sites_are_a_note(tmp_path):
    manifest = write_manifest(tmp_path / "raw", "A-1", "A1", "B", "C", site=("N", "S", "N", "S"))
    checked = check_manifest(manifest, tmp_path, size=SIDE)
    assert checked.report["passed"]
    assert checked.codes == {"ids-alike-at-two-sites": "note"}
    manifest = write_manifest(tmp_path / "raw", "A-1", "A1", "A1", "C", site=("N", "S", "N", "S"))
    assert check_manifest(manifest, tmp_path, size=SIDE).codes["ids-alike"] == "problem"


def test_ids_alike_with_two_values_of_split_are_rejected(tmp_path):
    split = ("train", "test", "train", "server")
    made = preprocess_manifest(write_manifest(tmp_path / "raw", "7", "007", "B", "C", split=split), tmp_path)
    assert "another spelling of its id is in client_train and in client_test" in made.error
    assert not (tmp_path / "preprocessed").exists()


@pytest.mark.parametrize(("char", "code"), [("\u200b", "U+200B"), ("\ufeff", "U+FEFF"), ("\u00ad", "U+00AD")])
@pytest.mark.parametrize("run", [check_manifest, preprocess_manifest])
def test_an_invisible_character_in_an_id_is_named_with_its_row(char, code, run, tmp_path):
    found = run(write_manifest(tmp_path / "raw", "P1", f"P{char}1", f"P2{char}"), tmp_path)
    assert f"row 3: patient_id contains {code} " in found.error
    assert f"row 4: patient_id contains {code} " in found.error


PEOPLE = [f"P{number}" for number in range(8)]


def test_two_manifests_with_the_same_people_are_not_divided(tmp_path):
    preprocess_named(write_manifest(tmp_path / "ct", *PEOPLE), tmp_path / "made", "one")
    preprocess_named(write_manifest(tmp_path / "mri", *PEOPLE[6:], *"ABCDEF"), tmp_path / "made", "two")
    with pytest.raises(FlamesError, match=r"one and two were split one by one and share 2 patients \(p-"):
        partition(PartitionConfig(workspace=tmp_path / "made"))
    assert not list(tmp_path.glob("made/partitions/*/*"))
    made = partition(PartitionConfig(workspace=tmp_path / "made", different_people=True))
    assert [client.name for client in made.clients] == ["one", "two"]


def test_two_manifests_that_spell_the_same_people_differently_are_not_divided(tmp_path):
    preprocess_named(write_manifest(tmp_path / "ct", *PEOPLE), tmp_path / "made", "one")
    others = ["p-03", "\u0420 4", *"ABCDEF"]  # the second has a Cyrillic letter
    preprocess_named(write_manifest(tmp_path / "mri", *others), tmp_path / "made", "two")
    with pytest.raises(FlamesError, match=r"share 2 patients \(p-\w+ = p-\w+, p-\w+ = p-\w+\)"):
        partition(PartitionConfig(workspace=tmp_path / "made"))


def test_two_manifests_with_other_people_are_divided(tmp_path):
    preprocess_named(write_manifest(tmp_path / "ct", *PEOPLE), tmp_path / "made", "one")
    preprocess_named(write_manifest(tmp_path / "mri", *"ABCDEFGH"), tmp_path / "made", "two")
    assert len(partition(PartitionConfig(workspace=tmp_path / "made")).clients) == 2


def test_numbers_of_unnamed_images_count_within_their_data_set(phantom_raw, tmp_path):
    for name in ("otu2d", "busi"):
        config = PreprocessConfig(workspace=tmp_path, raw={name: phantom_raw[name]}, size=SIDE)
        (report,) = preprocess(config, name)
        assert report["patient_unit"] == "image"
    salt = read_salt(tmp_path / "private" / "salt")
    for row in read_csv(tmp_path / "private" / "otu2d.csv"):
        assert row["pseudonym"] == pseudonym(salt, f"otu2d/{row['patient']}")
    preprocess_named(write_manifest(tmp_path / "raw", *map(str, range(1, 9))), tmp_path, "own")
    assert len(partition(PartitionConfig(workspace=tmp_path)).clients) == 3
