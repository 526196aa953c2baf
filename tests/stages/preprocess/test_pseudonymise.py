"""Pseudonyms by a site's salt: only names depend on it."""

import csv
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.core.pseudonyms import pseudonym
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import read_set
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import open_checked, read_preprocessed_cases
from flames_cli.store.salts import read_salt
from flames_cli.store.schema import PREPROCESSED
from tests.support.datasets import private_rows

COLUMNS = ("image", "mask", "patient_id", "modality", "organ", "site")
SIDE = 16


def draw(folder, rows):
    """Write a manifest of noise with (patient, modality) rows: a still image for US, else a volume of three
    slices."""
    listed = [COLUMNS]
    for number, (patient, modality) in enumerate(rows):
        shape = (SIDE, SIDE, *([3] if modality != "US" else []))
        pixels = derive_rng(0, "naming", number).integers(1, 255, shape).astype(np.uint8)
        mask = np.zeros(shape, np.uint8)
        mask[4:12, 4:12] = 1
        names = [f"scan {number}.png", f"spot {number}.png"]
        if modality == "US":
            Image.fromarray(pixels).save(folder / names[0])
            Image.fromarray(mask).save(folder / names[1])
        else:
            names = [name.replace(".png", ".nii") for name in names]
            if modality == "CT":
                pixels = pixels.astype(np.int16) - 100
            for name, content in zip(names, (pixels, mask), strict=True):
                nib.save(nib.Nifti1Image(content, np.eye(4)), folder / name)
        listed.append((*names, patient, modality, "breast", "A" if int(patient[1:]) < 6 else "B"))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(listed)
    return folder


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Make twelve patients of two sites with a still image each, half of them with a second, two thirds with
    an MRI too.

    Their ids sort neither as they are listed nor as numbers.
    """
    people = [f"P{number}" for number in (7, 11, 3, 0, 9, 2, 10, 5, 1, 8, 4, 6)]
    rows = [(one, "US") for one in people] + [(one, "US") for one in people[::2]]
    rows += [(one, "MRI") for one in people if int(one[1:]) % 3]
    return draw(tmp_path_factory.mktemp("hospital"), rows)


def run(workspace, raw, **options):
    options = {"size": SIDE, "name": "own", **options}
    return preprocess(PreprocessConfig(workspace=workspace, raw={"manifest": raw}, **options), "manifest")


def site(folder, salt):
    """Return a workspace with a salt of its own choice."""
    (folder / "private").mkdir(parents=True)
    (folder / "private" / "salt").touch(mode=0o600)
    (folder / "private" / "salt").write_text(salt.hex(), encoding="ascii")
    return folder


def test_people_are_called_by_the_sites_salt_in_every_modality(hospital, tmp_path):
    run(tmp_path, hospital)
    salt = read_salt(tmp_path / "private" / "salt")
    expected = {pseudonym(salt, f"P{number}") for number in range(12)}
    found = {}
    for dataset in ("own-us", "own-mri"):
        _, sets = read_preprocessed_cases(tmp_path / "preprocessed" / f"{dataset}.h5")
        assert all(case.split_unit == case.patient for cases in sets.values() for case in cases)
        found[dataset] = {case.patient for cases in sets.values() for case in cases}
    assert found["own-us"] == expected > found["own-mri"]
    assert {row["pseudonym"]: row["patient"] for row in private_rows(tmp_path)} == {
        pseudonym(salt, f"P{number}"): f"P{number}" for number in range(12)
    }


def test_a_case_is_called_by_its_patient_its_number_and_its_slice(tmp_path):
    raw = draw(tmp_path, [("P1", "US"), ("P2", "US"), ("P1", "US"), *[("P3", "CT")] * 2, ("P4", "CT")])
    salt = bytes(range(32))
    run(site(tmp_path / "made", salt), raw, server_test=0, test_fraction=0)
    names = {
        dataset: {
            case.case
            for cases in read_preprocessed_cases(tmp_path / "made" / "preprocessed" / f"{dataset}.h5")[
                1
            ].values()
            for case in cases
        }
        for dataset in ("own-us", "own-ct")
    }
    one, two, three, four = (pseudonym(salt, f"P{number}") for number in (1, 2, 3, 4))
    assert names["own-us"] == {f"{one}/1", two, f"{one}/2"}
    slices = [f"z{index:03d}" for index in range(3)]
    assert names["own-ct"] == {
        *(f"{three}/{number}/{place}" for number in (1, 2) for place in slices),
        *(f"{four}/{place}" for place in slices),
    }


def test_a_name_stays_when_a_file_before_it_is_bad(hospital, tmp_path):
    def names(folder):
        _, sets = read_preprocessed_cases(folder / "preprocessed" / "own.h5")
        return {case.case for cases in sets.values() for case in cases}

    raw = draw(tmp_path, [(f"P{number}", "US") for number in (1, 2, 3, 4, 1, 1)])
    salt = bytes(32)
    run(site(tmp_path / "whole", salt), raw)
    (raw / "scan 4.png").write_bytes(b"")
    (report,) = run(site(tmp_path / "damaged", salt), raw, skip_bad=True)
    bad = f"{pseudonym(salt, 'P1')}/2"
    assert report["bad"] == [bad]
    assert names(tmp_path / "damaged") == names(tmp_path / "whole") - {bad}


def test_the_sites_own_table_lists_the_result_of_every_source(tmp_path):
    raw = draw(tmp_path, [(f"P{number}", "US") for number in (1, 2, 3, 4, 5, 6, 7)])
    (raw / "scan 0.png").write_bytes(b"")
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(raw / "spot 1.png")
    (raw / "scan 2.png").write_bytes((raw / "scan 3.png").read_bytes())
    run(tmp_path / "made", raw, skip_bad=True)
    rows = private_rows(tmp_path / "made")
    assert [(row["patient"], row["source"]) for row in rows] == [
        (f"P{n + 1}", f"scan {n}.png") for n in range(7)
    ]
    assert [row["name"] for row in rows] == [row["pseudonym"] for row in rows]
    assert [row["what"] for row in rows] == ["bad", "skipped", "kept", "copy", "kept", "kept", "kept"]
    assert [row["why"] for row in rows[1:]] == ["the mask is empty", "", "of scan 2.png", "", "", ""]
    assert "scan 0.png" in rows[0]["why"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")
@pytest.mark.parametrize("own", [True, False])
def test_files_that_stay_at_the_site_are_readable_only_by_their_owner(own, hospital, salt_file, tmp_path):
    run(tmp_path / "made", hospital, salt_file=None if own else salt_file)
    private = tmp_path / "made" / "private"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (private, *private.iterdir())}
    files = ("own-us.csv", "own-mri.csv", *(["salt"] if own else []))
    assert modes == {"private": 0o700, **dict.fromkeys(files, 0o600)}


def stored(workspace):
    """Return the content of every set, by the names of the raw data: (patient, unit, source, pixels)."""
    people, sources = {}, {}
    for table in (workspace / "private").glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        people |= {row["pseudonym"]: row["patient"] for row in rows}
        sources |= {(table.stem, row["name"]): row["source"] for row in rows}
    found = {}
    for path in sorted((workspace / "preprocessed").glob("*.h5")):
        with open_checked(path, PREPROCESSED) as file:
            for own in SETS:
                held = read_set(file[own])
                called = [one.case.rpartition("/")[0] if one.place else one.case for one in held.cases]
                found[path.name, own] = [
                    (people[one.patient], people[one.split_unit], sources[path.stem, name], image.tobytes())
                    for one, name, image in zip(held.cases, called, held.images, strict=True)
                ]
    return found


@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.binary(min_size=32, max_size=40))
def test_what_is_in_which_set_does_not_depend_on_the_salt(hospital, seed, salt):
    """tests/stages/partition tests the same for partitions."""
    with TemporaryDirectory() as folder:
        workspaces = [site(Path(folder) / name, key) for name, key in (("a", salt), ("b", salt[::-1] + b"b"))]
        for workspace in workspaces:
            run(workspace, hospital, seed=seed)
        one, other = (stored(workspace) for workspace in workspaces)
        assert one == other
        sets = {}
        for (_, own), cases in one.items():
            for patient, *_ in cases:
                assert sets.setdefault(patient, own) == own, "in two sets"
        assert set(sets) == {f"P{number}" for number in range(12)}


def test_the_same_seed_data_and_salt_give_the_same_bytes(hospital, salt_file, tmp_path):
    for name in "ab":
        run(tmp_path / name, hospital, salt_file=salt_file)
        partition(PartitionConfig(workspace=tmp_path / name))
    one, other = (
        {
            path.relative_to(tmp_path / name): hash_file(path)
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "ab"
    )
    assert one == other
    assert len(one) > 8


def test_data_preprocessed_again_have_the_same_names_and_are_never_in_two_sets(hospital, tmp_path):
    run(tmp_path, hospital)
    before = {path.name: hash_file(path) for path in tmp_path.glob("p*/*") if path.suffix in (".h5", ".csv")}
    run(tmp_path, hospital, overwrite=True)
    assert before == {
        path.name: hash_file(path) for path in tmp_path.glob("p*/*") if path.suffix in (".h5", ".csv")
    }
    partition(PartitionConfig(workspace=tmp_path, split={"own": 2}))


def test_a_person_in_two_collections_of_a_site_has_one_pseudonym(hospital, tmp_path):
    run(tmp_path, hospital)
    run(tmp_path, hospital, name="other")
    names = {}
    for row in private_rows(tmp_path):
        assert names.setdefault(row["patient"], row["pseudonym"]) == row["pseudonym"]
    assert len(set(names.values())) == 12


def test_an_invalid_salt_is_reported_before_the_work_and_nothing_is_written(hospital, tmp_path):
    with pytest.raises(FlamesError, match="gone cannot be read"):
        run(tmp_path / "made", hospital, salt_file=tmp_path / "gone")
    assert not (tmp_path / "made").exists()
    damaged = site(tmp_path / "damaged", b"short")
    with pytest.raises(FlamesError, match="salt has 10 characters, expected 64 or more hex digits"):
        run(damaged, hospital)
    assert not (damaged / "preprocessed").exists()
