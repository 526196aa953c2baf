"""The examples of docs/plugins.md work as they are written."""

import re
from pathlib import Path

import numpy as np
import pytest

from flames_cli.plugins import GROUPS, use_files
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions
from flames_cli.trackers import TRACKERS
from flames_cli.trackers.base import TrackedRun

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")


@pytest.fixture
def example(site, tmp_path):
    """example("Readers"): use the first Python code of that section as a file of plug-ins."""

    def use(heading):
        section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        file = tmp_path / f"page_{heading.lower().replace(' ', '_')}.py"
        file.write_text(code, encoding="utf-8")
        use_files([file])

    return use


def test_the_reader_reads(example, tmp_path):
    example("Readers")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "p01_1.npy", np.zeros((20, 30), np.uint8))
    np.save(tmp_path / "masks" / "p01_1.npy", np.eye(20, 30, dtype=np.uint8))
    (source,) = READERS["thyroid"].list_sources(tmp_path)
    (case,) = READERS["thyroid"].read_source(source, ReadOptions())
    assert (case.patient, case.mask.sum()) == ("p01", 20)


def test_the_tracker_continues_after_its_last_round(example, tmp_path):
    example("Trackers")
    run = TrackedRun("a", "", "0" * 16, tmp_path, tmp_path, {})
    for last in (0, 1):
        tracker = TRACKERS["lines"]()
        assert tracker.start(run) == last
        tracker.round(last + 1, {"dice": 0.5})
        tracker.final(last + 1, {})
        tracker.finish("finished")


def test_the_dictionaries_of_a_file_are_those_of_the_groups():
    section = PAGE.split("\n## One file\n")[1].split("\n## ")[0]
    (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert {name.lower() for name in re.findall(r"[A-Z]+", code)} == set(GROUPS)


def test_every_group_has_its_row_and_its_section():
    assert set(re.findall(r"^\| `flames\.(\w+)` \|", PAGE, re.MULTILINE)) == set(GROUPS)
    assert {group.capitalize() for group in GROUPS} <= set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE))
