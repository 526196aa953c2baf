"""Any bytes in a raw file give cases or an error of one line, never another exception."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flames_cli.readers import READERS
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase

EVERY_READER = pytest.mark.parametrize("name", READERS)
OPTIONS = (ReadOptions(), ReadOptions(colour=True), ReadOptions(slices="all", plane="coronal"))

Damage = tuple[str, int, bytes]


@st.composite
def damages(draw) -> Damage:
    """Return damages: (kind, position in thousandths of the file, bytes)."""
    how = draw(st.sampled_from(["cut", "flip", "insert", "replace", "empty", "header"]))
    return how, draw(st.integers(0, 1000)), draw(st.binary(min_size=1, max_size=24))


def damage(sound: bytes, how: str, where: int, junk: bytes) -> bytes:
    position = len(sound) * where // 1001
    return {
        "cut": sound[:position],
        "flip": sound[:position] + junk + sound[position + len(junk) :],
        "insert": sound[:position] + junk + sound[position:],
        "replace": junk,
        "empty": b"",
        "header": sound[: where % 400] + junk + sound[where % 400 + len(junk) :],
    }[how]


def damaged_copy(path: Path, folder: Path, done: Damage) -> Path:
    """A damaged copy of a file, or of a folder with one damaged file."""
    copy = folder / path.name
    if path.is_dir():
        shutil.copytree(path, copy, dirs_exist_ok=True)
        files = sorted(copy.iterdir())
        target = files[done[1] % len(files)]
    else:
        target = copy
    original = path / target.name if path.is_dir() else path
    target.write_bytes(damage(original.read_bytes(), *done))
    return copy


@EVERY_READER
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(done=damages(), which=st.integers(0, 1000), option=st.sampled_from(OPTIONS))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_cases_or_one_clear_line(name, phantom_raw, tmp_path, done, which, option):
    reader = READERS[name]
    sources = reader.list_sources(phantom_raw[name])
    source = sources[which % len(sources)]
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    if which % 2 and source.masks:
        source = replace(source, masks=(damaged_copy(source.masks[0], folder, done), *source.masks[1:]))
    else:
        source = replace(source, image=damaged_copy(source.image, folder, done))
    refused, cases = "left out", []
    try:
        cases = reader.read_source(source, option)
    except (BadCase, SkippedCase) as error:
        refused = str(error)
    assert refused
    assert "\n" not in refused
    assert str(tmp_path) not in refused
    for case in cases:
        assert case.image.shape[:2] == case.mask.shape
        assert set(np.unique(case.mask)) <= {0, 1}
        assert np.isfinite(case.image).all()


@EVERY_READER
def test_junk_loops_and_unusual_names_change_nothing(name, phantom_raw, tmp_path):
    reader = READERS[name]
    root = Path(shutil.copytree(phantom_raw[name], tmp_path / "Klinik für Radiologie (2)"))
    expected = [source.name for source in reader.list_sources(root)]
    for folder in [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())][:6]:
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "nowhere.png").symlink_to(folder / "gone")
        (folder / ".hidden").write_bytes(b"junk")
        (folder / "notes – 患者.txt").write_text("junk", encoding="utf-8")
    assert [source.name for source in reader.list_sources(root)] == expected
