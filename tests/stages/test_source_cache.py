"""`check` and `preprocess` read a file once, and write with the cache what they write without it."""

import csv
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import CheckConfig, PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.readers import READERS
from flames_cli.readers.base import BadCase, ReadOptions
from flames_cli.stages import source_cache as module
from flames_cli.stages.check.stage import check
from flames_cli.stages.one_pass import Reading
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.stages.source_cache import CODE, decode_sources, inspect_sources
from flames_cli.store.cache import Cache
from flames_cli.store.cache_entries import encode_entry

SIDE, STILLS, VOLUMES = 24, 6, 2
COLUMNS = ("image", "mask", "patient_id", "modality", "organ", "site", "sex")


def draw_still(folder, number, mask=(6, 14), seed=0):
    pixels = derive_rng(seed, "source cache", number).integers(1, 255, (SIDE, SIDE)).astype(np.uint8)
    shape = np.zeros((SIDE, SIDE), np.uint8)
    shape[slice(*mask), slice(*mask)] = 255
    Image.fromarray(pixels).save(folder / f"s{number}.png")
    Image.fromarray(shape).save(folder / f"s{number}_m.png")


def draw_volume(folder, number):
    voxels = derive_rng(0, "source cache volume", number).integers(1, 900, (SIDE, SIDE, 5)).astype(np.int16)
    mask = np.zeros(voxels.shape, np.uint8)
    mask[5:12, 5:12, 1 + number] = 1
    for name, values in ((f"v{number}.nii.gz", voxels), (f"v{number}_m.nii.gz", mask)):
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / name)


def write_manifest(folder, **changed):
    """Write the manifest; `changed` has other values by column, for the first row."""
    rows = [
        {"image": f"s{n}.png", "mask": f"s{n}_m.png", "patient_id": f"P{n}", "modality": "US"}
        for n in range(STILLS)
    ]
    rows += [
        {"image": f"v{n}.nii.gz", "mask": f"v{n}_m.nii.gz", "patient_id": f"P{n}", "modality": "MRI"}
        for n in range(VOLUMES)
    ]
    rows = [{"organ": "breast", "site": "A", "sex": "f", **row} for row in rows]
    rows[0] |= changed
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def raw(tmp_path):
    """Return the folder of a manifest of stills and volumes."""
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(STILLS):
        draw_still(folder, number)
    for number in range(VOLUMES):
        draw_volume(folder, number)
    write_manifest(folder)
    return folder


@pytest.fixture
def count(monkeypatch):
    """Return count(), the names of the sources that were read since the last call."""
    names = []
    read_once = module.read_once

    def counting(reading, source, parts):
        names.append(source.name)
        return read_once(reading, source, parts)

    def get():
        found = sorted(names)
        names.clear()
        return found

    monkeypatch.setattr(module, "read_once", counting)
    return get


@pytest.fixture
def run(raw, tmp_path):
    """Return run("check", "preprocess"), which runs these commands in one workspace."""
    salt = tmp_path / "salt"
    salt.write_text("ab" * 32)
    salt.chmod(0o600)

    def run_all(*commands, workspace="with", **options):
        common = {
            "workspace": tmp_path / workspace,
            "raw": {"manifest": raw},
            "size": 16,
            "workers": 1,
            **options,
        }
        for command in commands:
            if command == "check":
                check(CheckConfig(datasets=("manifest",), **common))
            else:
                shares = {
                    "server_test": 2,
                    "test_fraction": 0.0,
                    "overwrite": True,
                    "salt_file": salt,
                    "keep_columns": ("sex",),
                }
                preprocess(PreprocessConfig(**common, **shares), "manifest")

    return run_all


def everything_in(workspace: Path):
    """Return all files besides the cache, by name."""
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in workspace.rglob("*")
        if path.is_file() and "cache" not in path.parts and path.suffix != ".lock"
    }


ALL = sorted([*(f"s{n}.png" for n in range(STILLS)), *(f"v{n}.nii.gz" for n in range(VOLUMES))])


def same_as_without(run, tmp_path, *commands, **options):
    """Return whether the commands wrote what they write without a cache."""
    run(*commands, workspace="without", **{**options, "cache": False})
    assert not (tmp_path / "without" / "cache").exists()
    return everything_in(tmp_path / "with") == everything_in(tmp_path / "without")


def test_after_check_preprocess_reads_nothing_and_both_write_the_same_bytes(run, count, tmp_path):
    run("check")
    assert count() == ALL
    run("preprocess")
    assert count() == []
    assert same_as_without(run, tmp_path, "check", "preprocess")
    count()
    run("check", "preprocess")
    assert count() == []
    assert everything_in(tmp_path / "with") == everything_in(tmp_path / "without")


def test_preprocess_alone_reads_once_and_check_adds_its_figures(run, count, tmp_path):
    run("preprocess")
    assert count() == ALL
    run("preprocess")
    assert count() == []
    run("check")
    assert count() == ALL
    run("check", "preprocess")
    assert count() == []
    assert same_as_without(run, tmp_path, "preprocess", "check")


def test_only_a_mended_file_is_read_again(raw, run, count, tmp_path):
    run("check", "preprocess")
    count()
    draw_still(raw, 3, seed=1)
    run("check")
    assert count() == ["s3.png"]
    run("preprocess")
    assert count() == []
    assert same_as_without(run, tmp_path, "check", "preprocess")
    count()
    draw_volume(raw, 0)
    nib.save(nib.Nifti1Image(np.ones((SIDE, SIDE, 5), np.uint8), np.eye(4)), raw / "v1_m.nii.gz")
    run("check")
    assert count() == ["v1.nii.gz"]  # v0 has the same bytes as before


def test_a_bad_file_is_read_once_until_it_is_mended(raw, run, count):
    whole = (raw / "s2.png").read_bytes()
    (raw / "s2_m.png").write_bytes((raw / "s2_m.png").read_bytes()[:60])
    draw_still(raw, 4, mask=(0, 0))
    run("check")
    count()
    with pytest.raises(Exception, match=r"s2_m\.png"):
        run("preprocess")
    assert "s4.png" not in count()
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(raw / "s2_m.png")
    with pytest.raises(Exception, match=r"s2\.png: the mask covers 100"):
        run("preprocess")
    assert count() == ["s2.png"]
    assert (raw / "s2.png").read_bytes() == whole


def test_an_accepted_mask_is_used_without_reading_again(raw, run, count, tmp_path):
    draw_still(raw, 2, mask=(0, SIDE))
    run("check")
    with pytest.raises(Exception, match=r"--accept FILE as full-mask:s2\.png"):
        run("preprocess")
    count()
    accept = tmp_path / "accept.toml"
    accept.write_text('[[accept]]\nid = "full-mask:s2.png"\nreason = "looked at"\n')
    run("check", "preprocess", accept=accept)
    assert count() == []
    assert same_as_without(run, tmp_path, "check", "preprocess", accept=accept)


@pytest.mark.parametrize("changed", [{"patient_id": "P1"}, {"site": "B"}, {"sex": "m"}, {"organ": "liver"}])
def test_a_corrected_column_costs_no_reading(changed, raw, run, count, tmp_path):
    run("check", "preprocess")
    count()
    write_manifest(raw, **changed)
    run("check")
    assert count() == []
    if "organ" not in changed:
        run("preprocess")
        assert count() == []
    commands = ("check",) if "organ" in changed else ("check", "preprocess")
    run(*commands, workspace="without", cache=False)
    found = everything_in(tmp_path / "with")
    expected = everything_in(tmp_path / "without")
    assert {name: found[name] for name in expected} == expected


OPTIONS = {
    "size": {"size": 20},
    "mask resize": {"mask_resize": "paper"},
    "window": {"window": {"MRI": (10.0, 500.0)}},
    "percentile": {"percentile": 90.0},
    "slices": {"slices": "all"},
    "channels": {"channels": "rgb"},
    "empty": {"empty": "keep"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_another_option_reads_again_and_leaves_nothing_of_the_first(name, run, count, tmp_path):
    run("check")
    first = {path.name for path in (tmp_path / "with" / "cache" / "own").iterdir()} - {"files"}
    count()
    run("check", **OPTIONS[name])
    assert count() == ALL
    second = {path.name for path in (tmp_path / "with" / "cache" / "own").iterdir()} - {"files"}
    assert len(first) == len(second) == 2 * len(ALL)
    assert first & second == set()
    run("preprocess", **OPTIONS[name])
    assert count() == []
    assert same_as_without(run, tmp_path, "check", "preprocess", **OPTIONS[name])


def test_damaged_entries_are_read_again(run, count, tmp_path):
    run("check", "preprocess")
    for number, path in enumerate(sorted((tmp_path / "with" / "cache" / "own").iterdir())):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else content[:-1] + b"?")
    count()
    run("check", "preprocess")
    assert count() == sorted(ALL * 2)
    run("check", "preprocess")
    assert count() == []
    assert same_as_without(run, tmp_path, "check", "preprocess")


def test_a_cache_that_cannot_be_written_changes_nothing(run, count, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "cache").write_text("a file in place of the folder")
    run("check", "preprocess")
    assert count() == sorted(ALL * 2)
    (tmp_path / "with" / "cache").unlink()
    assert same_as_without(run, tmp_path, "check", "preprocess")


def test_a_moved_data_set_stays_in_the_cache(raw, run, count, tmp_path):
    run("check")
    count()
    (tmp_path / "there").mkdir()
    raw.rename(tmp_path / "there" / "own")
    run("check", "preprocess", raw={"manifest": tmp_path / "there" / "own"})
    assert count() == []


def test_a_file_that_was_not_there_is_read_when_it_is(raw, run, count):
    hidden = (raw / "s1_m.png").read_bytes()
    (raw / "s1_m.png").unlink()
    run("check")
    count()
    run("check")
    assert count() == ["s1.png"]
    (raw / "s1_m.png").write_bytes(hidden)
    run("check")
    assert count() == ["s1.png"]
    run("check", "preprocess")
    assert count() == []


def test_two_commands_at_the_same_time_write_what_each_writes_alone(run, tmp_path):
    errors = []

    def work(command, **options):
        try:
            run(command, **options)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=("check",)),
        threading.Thread(target=work, args=("preprocess",)),
        threading.Thread(target=work, args=("check",), kwargs={"size": 20, "workspace": "with"}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    run("check")
    assert same_as_without(run, tmp_path, "check", "preprocess")


class TestStates:
    """The state of a file stands for its content only if it cannot hide a change."""

    @pytest.fixture
    def settled(self, monkeypatch):
        monkeypatch.setattr(module, "SETTLED_SECONDS", -1e9)

    @pytest.fixture
    def hashed(self, monkeypatch):
        """Return hashed(), the number of files that were hashed since the last call."""
        names = []
        hash_one = module._hash

        def counting(state):
            names.append(state.path)
            return hash_one(state)

        def get():
            number = len(names)
            names.clear()
            return number

        monkeypatch.setattr(module, "_hash", counting)
        return get

    def test_new_files_are_hashed_before_and_after_they_are_read_and_at_every_run(self, run, hashed):
        run("check")
        assert hashed() == 4 * len(ALL)
        run("preprocess")
        assert hashed() == 2 * len(ALL)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no time of the last change")
    def test_files_that_did_not_change_for_long_are_hashed_once(self, settled, run, hashed, count, tmp_path):
        run("check")
        assert hashed() == 2 * len(ALL)
        run("preprocess", "check", "preprocess")
        assert hashed() == 0
        count()
        run("preprocess", size=20)
        assert hashed() == 2 * len(ALL)
        assert count() == ALL

    def test_a_file_of_the_same_size_and_time_is_seen_by_its_time_of_change(self, settled, raw, run, count):
        run("check")
        count()
        path = raw / "s4.png"
        times, content = path.stat(), bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_mtime_ns == times.st_mtime_ns
        run("check")
        assert count() == ["s4.png"]

    def check_while_a_file_changes(self, raw, run, monkeypatch):
        """Change a file between its hash and its reading, and restore it after the command."""
        first, read_once = (raw / "s4.png").read_bytes(), module.read_once

        def changing(reading, source, parts):
            if source.name == "s4.png":
                draw_still(raw, 4, seed=9)
            return read_once(reading, source, parts)

        monkeypatch.setattr(module, "read_once", changing)
        run("check")
        monkeypatch.setattr(module, "read_once", read_once)
        (raw / "s4.png").write_bytes(first)

    @pytest.mark.parametrize("settles", [True, False])
    def test_a_file_that_changes_while_it_is_read_is_not_stored(
        self, settles, raw, run, monkeypatch, tmp_path
    ):
        monkeypatch.setattr(module, "SETTLED_SECONDS", -1e9 if settles else 10.0)
        self.check_while_a_file_changes(raw, run, monkeypatch)
        run("check", "preprocess")
        assert same_as_without(run, tmp_path, "check", "preprocess")

    def test_a_new_file_that_changes_without_another_state_is_not_stored(
        self, raw, run, monkeypatch, tmp_path
    ):
        states, states_of = {}, module._states_of
        monkeypatch.setattr(
            module, "_states_of", lambda source: states.setdefault(source.name, states_of(source))
        )
        self.check_while_a_file_changes(raw, run, monkeypatch)
        run("check", "preprocess")
        assert same_as_without(run, tmp_path, "check", "preprocess")


@pytest.mark.parametrize("cause", [MemoryError(), OSError(5, "Input/output error"), None])
def test_an_error_of_the_machine_is_not_stored(cause, raw, run, count, monkeypatch):
    reader = READERS["manifest"]

    def fail(source, options):
        if source.name == "s1.png":
            raise BadCase("s1.png: it needs more memory than there is") from cause
        return reader.read_source(source, options)

    monkeypatch.setattr("flames_cli.stages.check.stage.open_raw", lambda config, name: opened(config, name))
    from flames_cli.stages.raw import open_raw

    def opened(config, name):
        found = open_raw(config, name)
        return replace(found, reader=replace(found.reader, read_source=fail))

    run("check")
    count()
    run("check")
    assert count() == (["s1.png"] if cause else [])


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.modality])
def test_every_reader_gives_with_the_cache_what_it_gives_without(name, phantom_raw, count, tmp_path):
    reader, cache = READERS[name], Cache(tmp_path / "cache" / name)
    sources = reader.list_sources(phantom_raw[name])[:3]
    reading = Reading(reader, ReadOptions(), 32, "aligned")

    def entries(cache):
        figures = inspect_sources(reading, sources, True, cache, 1)
        cases = decode_sources(reading, sources, cache, 1)
        return [*map(encode_entry, figures), *map(encode_entry, cases)]

    expected = entries(None)
    count()
    assert entries(cache) == expected
    assert count() == sorted(source.name for source in sources)
    assert entries(cache) == expected
    assert count() == []


def test_a_series_of_dicom_files_is_known_by_all_of_its_files(tmp_path, monkeypatch):
    folder = tmp_path / "series"
    folder.mkdir()
    for name in ("1.dcm", "2.dcm", ".hidden"):
        (folder / name).write_bytes(name.encode())
    (folder / "sub").mkdir()
    source = replace(module.Source("a", "P", folder, (tmp_path / "mask.nii",)))
    (tmp_path / "mask.nii").write_bytes(b"mask")
    names = [Path(state.path).name for state in module._states_of(source)]
    assert names == ["1.dcm", "2.dcm", "mask.nii"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_what_is_no_regular_file_is_left_to_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert module._states_of(module.Source("a", "P", tmp_path / "pipe.png", ())) == []
    assert module._states_of(module.Source("a", "P", tmp_path / "gone.png", ())) == []


def test_all_code_that_decides_what_a_source_gives_is_in_the_key():
    code = (
        "import sys, flames_cli.stages.one_pass, flames_cli.readers;"
        "print(*(name for name in sys.modules if name.startswith('flames_cli.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.removeprefix("flames_cli.").replace(".", "/") for name in loaded.stdout.split()}
    covered = tuple(name.removesuffix(".py") for name in CODE)
    others = {name for name in modules if not name.startswith(covered)}
    decides_nothing = ("config", "errors", "report", "learn", "store", "stages", "fed", "demo_data")
    assert {name for name in others if not name.startswith(decides_nothing)} == set()
