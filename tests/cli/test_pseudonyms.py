"""Nobody's id, file or folder is in anything that leaves preprocess: a whole study is searched for them."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.fed import training
from flames_cli.stages.preprocess import stage as stage
from flames_cli.store.h5 import read_shard_cases
from tests.support.asserts import results_in
from tests.support.command_line import SMALL_FEDERATION
from tests.support.datasets import private_rows

WHO, FILE, FOLDER = "Zqxsmith", "Zqwthorax", "Zqvfolder"
MARKS = (WHO, FILE, FOLDER)
"""In ids, in names of files and of folders: too long to stand in pixels by chance."""
PATIENTS = 8


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """A manifest of people with a still and a volume each; a bad one, a copy, one without a lesion."""
    folder = tmp_path_factory.mktemp("raw") / FOLDER
    folder.mkdir()
    rows = [("image", "mask", "patient_id", "modality", "organ")]
    for number in range(PATIENTS):
        who, home = f"{WHO}-{number}", folder / f"{FOLDER} {number}"
        home.mkdir()
        pixels = derive_rng(0, "marked", number).integers(1, 255, (32, 32, 4)).astype(np.uint8)
        mask = np.zeros_like(pixels)
        mask[8:20, 8:20, :2] = 1
        for name, content in (("still", pixels), ("spot", mask)):
            Image.fromarray(content[..., 0]).save(home / f"{FILE} {name}.png")
            nib.save(nib.Nifti1Image(content, np.eye(4)), home / f"{FILE} {name}.nii")
        stems = (f"{home.name}/{FILE} still", f"{home.name}/{FILE} spot")
        rows += [(*(stem + ".png" for stem in stems), who, "US", "breast")]
        rows += [(*(stem + ".nii" for stem in stems), who, "MRI", "breast")]
    first = f"{FOLDER} 0/{FILE}"
    Image.open(folder / f"{first} still.png").save(folder / f"{FILE} copy.png")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / f"{FILE} empty.png")
    healthy = derive_rng(0, "marked", "healthy").integers(1, 255, (32, 32)).astype(np.uint8)
    Image.fromarray(healthy).save(folder / f"{FILE} healthy.png")
    (folder / f"{FILE} bad.png").write_bytes(b"no picture")
    for name in ("copy", "bad"):
        rows.append((f"{FILE} {name}.png", f"{first} spot.png", f"{WHO}-0", "US", "breast"))
    rows.append((f"{FILE} healthy.png", f"{FILE} empty.png", f"{WHO}-1", "US", "breast"))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def find_marks(workspace: Path) -> set[str]:
    """The files outside `raw`, `private` and `cache` that hold a mark, in their names or in their bytes."""
    found = set()
    for path in (one for one in workspace.rglob("*") if one.is_file()):
        name = path.relative_to(workspace).as_posix()
        told = [name, path.read_bytes().decode("latin-1"), *(texts_of(path) if path.suffix == ".h5" else ())]
        if not name.startswith(("raw/", "private/", "cache/")) and any(is_marked(text) for text in told):
            found.add(name)
    return found


def is_marked(text: str) -> bool:
    return any(mark.lower() in text.lower() for mark in MARKS)


def texts_of(path: Path) -> Iterator[str]:
    """Every text in an HDF5 file, those in compressed chunks too."""
    with h5py.File(path) as file:
        entries = [file]
        file.visititems(lambda _, entry: entries.append(entry))
        for entry in entries:
            yield from (f"{name} {value}" for name, value in entry.attrs.items())
            if isinstance(entry, h5py.Dataset) and entry.dtype.kind in "SO":
                yield from (str(value) for value in entry[...].ravel())


@pytest.fixture
def logged(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """All that any logger says; Flower's keeps its words from the root."""
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("flwr")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_no_patient_can_be_found_in_a_study(flames, hospital, logged, monkeypatch):
    study = Path("study")

    def fail(task, settings, profile, *more):
        """As a fault that tells all that a node knows of its patients."""
        if profile.client != "own-us-1":
            return train(task, settings, profile, *more)
        raise FlamesError(f"{[cases for _, cases in read_shard_cases(settings.shards[0]).values()]}")

    train = training.train_client
    monkeypatch.setattr(training, "train_client", fail)
    named = ("--dataset", "manifest", "--raw", hospital, "--name", "own")
    commands = (
        ("preprocess", *named, "--size", 32, "--skip-bad"),
        ("partition", "--split", "own=2"),
        ("federate", *SMALL_FEDERATION, "--rounds", 1),
        ("evaluate",),
        ("tsne",),
    )
    said = [flames(*command, "--workspace", study) for command in commands]
    assert [result.exit_code for result in said] == [0] * 5, [result.output for result in said]
    told = {row["what"] for row in private_rows(study)}
    assert told == {"kept", "copy", "bad", "skipped"}, "or there was less to hide"
    assert "patient='p-" in (study / "runs" / "flames" / "rounds.jsonl").read_text(encoding="utf-8")
    written = {path.suffix for path in study.rglob("*")}
    assert written >= {".h5", ".json", ".jsonl", ".csv", ".png", ".svg", ".toml", ".safetensors"}
    assert find_marks(study) == set()
    assert not [result.output for result in said if is_marked(result.output)]
    assert not is_marked(logged.text)


def test_the_search_finds_what_is_not_hidden(flames, hospital, monkeypatch):
    """Without pseudonyms, every file that holds a patient is found."""
    monkeypatch.setattr(stage, "pseudonyms", lambda salt, patients, within: {one: one for one in patients})
    study = Path("study")
    named = ("--dataset", "manifest", "--raw", hospital, "--name", "own")
    flames("preprocess", *named, "--size", 32, "--skip-bad", "--workspace", study)
    result = flames("partition", "--workspace", study)
    assert result.exit_code == 0, result.output
    found = [path for path in study.rglob("*") if path.is_file() and path.suffix != ".lock"]
    files = {path.relative_to(study).as_posix() for path in found}
    assert find_marks(study) == {name for name in files if not name.startswith(("private/", "cache/"))} - {
        "preprocessed/own-mri.json"  # nothing was left out there
    }


def test_a_bad_case_is_named_only_where_its_owner_reads_it(error_line, hospital):
    told = error_line("preprocess", "--dataset", "manifest", "--raw", hospital, "--size", 32)
    assert f"{FILE} bad.png" in told
    assert results_in(Path("flames-workspace")) == []
