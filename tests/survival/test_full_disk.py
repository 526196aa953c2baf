"""A disk that is full or read-only: the error is one line, no file is half written, and with space the work
continues."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from flames_cli.config import EvaluateConfig, FederateConfig, PartitionConfig, PreprocessConfig
from flames_cli.errors import FlamesError, NotWritten
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.workspace import partition_folder
from tests.support.phantoms import PHANTOMS
from tests.support.tiny import tiny_options

pytestmark = pytest.mark.federated

SPACE = 4 << 20
"""Bytes of the small disk."""


@pytest.fixture
def disk(tmp_path):
    """Return a disk of a few MiB, which only root can mount; it is removed after the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid():
        pytest.skip("only root on Linux may mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return raw phantoms of one data set."""
    return {"busi": PHANTOMS["busi"](tmp_path_factory.mktemp("phantoms") / "busi", 16, 0)}


@contextmanager
def room(disk, pages):
    """Leave so many pages of 4096 bytes free in the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(disk)
        file.write(bytes(max(free.f_bavail * free.f_frsize - 4096 * pages, 0)))
    try:
        yield
    finally:
        ballast.unlink()


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def go_on(disk, step, work, limit=400):
    """Do `work` repeatedly with a little more space until it succeeds; return how often it failed."""
    full = "cannot be written: No space left on device; check space and rights$"
    for failed, pages in enumerate(range(0, limit, step)):
        with room(disk, pages):
            try:
                work()
                return failed
            except NotWritten as error:
                told = str(error)
            found = leftovers(disk)
        assert re.search(full, told)
        assert found == []
    raise AssertionError("there was never room enough")


def test_a_federation_continues_once_there_is_space(tiny, disk, one_thread):
    root = tiny()
    how = {"rounds": 2, "strategy": "scaffold", "optimiser": "sgd", "run": "one"}
    federate(FederateConfig(**tiny_options(root, **how)))
    full = shutil.copytree(root, disk / "workspace", ignore=shutil.ignore_patterns("runs"))
    assert go_on(disk, 3, lambda: federate(FederateConfig(**tiny_options(full, **how)))) > 3
    one, other = (workspace / "runs" / "one" for workspace in (full, root))
    assert files_of(one / "checkpoints") == files_of(other / "checkpoints")
    kept, expected = (files_of(next((run / "clients").iterdir())) for run in (one, other))
    assert kept == expected
    assert len((full / "runs" / "one" / "rounds.jsonl").read_bytes().splitlines()) == 2


def test_the_other_stages_begin_again_once_there_is_room(raw, tiny, disk, one_thread):
    root = disk / "workspace"
    made = PreprocessConfig(workspace=root, raw=raw, size=32)
    assert go_on(disk, 2, lambda: preprocess(made, "busi"))
    assert go_on(disk, 4, lambda: partition(PartitionConfig(workspace=root)))
    aside = disk.with_name("aside")
    same_salt = {"workspace": aside, "salt_file": root / "private" / "salt"}
    preprocess(made.model_copy(update=same_salt), "busi")
    partition(PartitionConfig(workspace=aside))
    for part in ("preprocessed", "shards"):
        assert files_of(root / part) == files_of(aside / part)
    federate(FederateConfig(**tiny_options(root, rounds=1, run="one")))
    tested = EvaluateConfig(workspace=root, run="one", device="cpu", overlays=False)
    assert go_on(disk, 1, lambda: evaluate(tested))
    assert (root / "evaluations" / "one" / "evaluation.json").is_file()


def test_a_read_only_folder_is_reported_in_one_line(tiny, disk, raw, one_thread):
    root = shutil.copytree(tiny(), disk / "workspace")
    federate(FederateConfig(**tiny_options(root, rounds=1, run="one")))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
    stages = (
        lambda: preprocess(PreprocessConfig(workspace=root, raw=raw, size=32, overwrite=True), "busi"),
        lambda: partition(PartitionConfig(workspace=root, overwrite=True)),
        lambda: federate(FederateConfig(**tiny_options(root, rounds=2, run="one"))),
        lambda: federate(FederateConfig(**tiny_options(root, rounds=1, run="other"))),
        lambda: evaluate(EvaluateConfig(workspace=root, run="one", device="cpu", overlays=False)),
    )
    for stage in stages:
        with pytest.raises(
            NotWritten, match="cannot be written: Read-only file system; check space and rights"
        ):
            stage()


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_hdf5_that_was_cut_short_is_one_line_at_every_stage(share, tiny, one_thread):
    root = tiny()
    for file in (root / "preprocessed" / "busi.h5", partition_folder(root) / "shards" / "busi.h5"):
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * share)])
    damaged = r"is damaged or not an HDF5 file; make it again with `flames preprocess`"
    with pytest.raises(FlamesError, match=damaged):
        partition(PartitionConfig(workspace=root, overwrite=True, split={"brats": 2}))
    changed = (
        r"busi\.h5 has changed since `flames partition` wrote it .* "
        "make it again with `flames partition --overwrite`"
    )
    with pytest.raises(FlamesError, match=changed):
        federate(FederateConfig(**tiny_options(root)))


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    from flames_cli.store.files import jsonl as lines

    path = tmp_path / "rounds.jsonl"
    lines.append_line(path, {"round": 1})
    whole = path.read_bytes()

    def fill(file, data):
        file.write(data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lines, "write_all", fill)
    with pytest.raises(NotWritten, match=r"rounds\.jsonl cannot be written: No space left on device"):
        lines.append_line(path, {"round": 2}, durable=True)
    assert path.read_bytes() == whole


def test_swapped_files_are_noticed(tiny, one_thread):
    root = tiny()
    made = root / "preprocessed"
    shutil.copyfile(made / "busi.h5", made / "brats.h5")
    with pytest.raises(FlamesError, match=r"brats\.h5 contains busi"):
        partition(PartitionConfig(workspace=root, overwrite=True))
    shutil.copyfile(
        partition_folder(root) / "shards" / "busi.h5",
        partition_folder(root) / "shards" / "brats-1.h5",
    )
    with pytest.raises(FlamesError, match=r"brats-1\.h5 has changed since `flames partition` wrote it"):
        federate(FederateConfig(**tiny_options(root)))
    assert not Path(root / "runs" / "flames").exists()
