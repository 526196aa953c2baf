"""Readers of plug-ins, from raw files to clients."""

import json
import os
import sys
from functools import partial

import numpy as np
import pytest

from flames_cli.config import PreprocessConfig
from flames_cli.plugins import use_files
from flames_cli.readers import READERS, get_reader
from flames_cli.readers.base import ReadOptions
from flames_cli.stages.one_pass import Reading, read_once
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.stages.worker_processes import WorkerProcesses
from tests.support.plugin_reader import ARRAYS
from tests.support.plugins import make_package

N = 24


@pytest.fixture
def raw(tmp_path):
    """Grey images with a bright square, and their masks."""
    root = tmp_path / "raw" / "arrays"
    (root / "masks").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(N):
        image = rng.integers(0, 100, (40, 48), np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        mask[8 + number % 9 : 20 + number % 9, 10:30] = 1
        np.save(root / f"{number:02d}.npy", image + 100 * mask)
        np.save(root / "masks" / f"{number:02d}.npy", mask)
    return root.parent


@pytest.fixture(params=["package", "file"])
def source(request, site, tmp_path, monkeypatch):
    """The reader `arrays`, of a package or of a file with a strange path."""
    monkeypatch.setattr(READERS, "_members", {})  # another test's package has the same name and version
    if request.param == "package":
        make_package(
            site, "flames-arrays", {"readers": {"arrays": "array_reader:ARRAYS"}}, {"array_reader": ARRAYS}
        )
        yield site / "array_reader.py"
        sys.modules.pop("array_reader", None)
        return
    file = tmp_path / "plug ins é" / "array reader.py"
    file.parent.mkdir()
    file.write_text(ARRAYS + "\nREADERS = {'arrays': ARRAYS}\n")
    use_files([file])
    yield file


def test_check_preprocess_and_partition_use_it_as_any_other(source, raw, flames, tmp_path):
    options = ("--size", 32, "--workspace", tmp_path / "ws", "--json")
    for command in ("check", "preprocess"):
        result = flames(command, "--dataset", "Arrays", "--raw", raw, *options)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)  # although the reader prints
        assert ("reading" in result.stderr) == (command == "check")  # preprocess finds it in the cache
        assert found["dataset"] == "arrays"
        assert found["plugins"] == [READERS.origin("arrays").fact]
        assert "plugins" not in found["options"]  # paths of this machine
    made = json.loads(flames("partition", "--workspace", tmp_path / "ws", "--json").stdout)
    assert [one["name"] for one in made["clients"]] == ["arrays"]


def test_partitioning_needs_the_file_only(source, raw, flames, site, tmp_path, monkeypatch):
    options = ("--size", 32, "--workspace", tmp_path / "ws", "--json")
    assert flames("preprocess", "--dataset", "arrays", "--raw", raw, *options).exit_code == 0
    monkeypatch.delenv("FLAMES_PLUGINS", raising=False)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(site)])
    assert "arrays" not in READERS
    assert flames("partition", "--dataset", "arrays", "--workspace", tmp_path / "ws").exit_code == 0


def loaded_modules(reading, source):
    read_once(reading, source, ["cases"])
    return os.getpid(), {name for name in sys.modules if name in ("torch", "flwr", "array_reader")}


def test_processes_load_the_plug_in_and_no_torch(source, raw):
    reading = Reading(get_reader("arrays"), ReadOptions(), 32, "aligned")
    sources = READERS["arrays"].list_sources(raw / "arrays")
    processes = WorkerProcesses(partial(loaded_modules, reading), 2)
    try:
        found = list(processes.map(iter(sources), 1, iter(())))
    finally:
        processes.end()
    assert len(found) == N
    assert os.getpid() not in {pid for pid, _ in found}
    assert set.union(*(names for _, names in found)) <= {"array_reader"}


def test_a_function_without_a_name_can_be_sent_to_a_process(site, raw, tmp_path):
    file = tmp_path / "nameless.py"
    file.write_text(
        ARRAYS + "\nfrom dataclasses import replace\nclass Own(Reader): pass\n"
        "READERS = {'nameless': replace(ARRAYS, read_source=lambda *given: read_source(*given))}"
    )
    use_files([file])
    reading = Reading(get_reader("nameless"), ReadOptions(), 32, "aligned")
    processes = WorkerProcesses(partial(loaded_modules, reading), 1)
    processes.end()


def reads(source, raw, space, capfd, **options):
    """Preprocess, and return how often a source was read."""
    capfd.readouterr()
    config = PreprocessConfig(
        workspace=space,
        raw={"arrays": raw},
        datasets=("arrays",),
        size=32,
        overwrite=True,
        workers=1,
        **options,
    )
    preprocess(config, "arrays")
    return "".join(capfd.readouterr()).count("reading")


def test_the_cache_knows_the_version_and_the_code_of_the_reader(source, raw, site, tmp_path, capfd):
    space = tmp_path / "ws"
    assert reads(source, raw, space, capfd) == N
    assert reads(source, raw, space, capfd) == 0
    source.write_text(source.read_text() + "\n# a correction\n")
    if os.environ.get("FLAMES_PLUGINS"):
        use_files([source])
    assert reads(source, raw, space, capfd) == N
    assert reads(source, raw, space, capfd) == 0


def test_a_wrong_case_is_left_out_and_the_others_go_on(source, raw, flames, tmp_path):
    np.save(raw / "arrays" / "masks" / "03.npy", np.full((40, 48), 7, np.uint8))
    (raw / "arrays" / "masks" / "04.npy").unlink()
    options = ("--size", 32, "--workspace", tmp_path / "ws", "--raw", raw, "--dataset", "arrays")
    failed = flames("preprocess", *options)
    assert failed.exit_code == 2
    assert "03: the plug-in " in failed.stderr
    assert "the mask has the values 7 to 7, expected 0 and 1" in failed.stderr
    assert "cannot read it (FileNotFoundError: " in failed.stderr
    assert flames("preprocess", *options, "--skip-bad").exit_code == 0


def test_a_reader_that_cannot_list_is_one_line(site, raw, error_line, tmp_path):
    file = tmp_path / "listless.py"
    file.write_text(
        ARRAYS.replace("return [\n        Source(", "raise SystemExit(7)\n    return [\n        Source(")
    )
    file.write_text(file.read_text() + "\nREADERS = {'arrays': ARRAYS}\n")
    line = error_line("check", "--dataset", "arrays", "--raw", raw, "--plugin", file, "--json")
    assert "listless.py sha256:" in line
    assert "cannot list the data set 'arrays' in " in line
    assert "(SystemExit: 7)" in line


def test_a_reader_that_is_not_installed_is_one_line(site, error_line):
    line = error_line("preprocess", "--dataset", "arrays")
    assert "data set 'arrays' is not known" in line
    assert line.endswith("a plug-in may offer it: `flames info --plugins`")
