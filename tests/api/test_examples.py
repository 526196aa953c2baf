"""The notebook, the scripts in examples/ and the lines of the README do what they say."""

import ast
import inspect
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import flames_cli as flames
from tests.support.command_line import ROOT, shell_environment

EXAMPLES = ROOT / "examples"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def code_in(page: Path) -> list[str]:
    """The Python code of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


README = next(block for block in code_in(ROOT / "README.md") if "flames_cli" in block)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """script("own_loop.py", …): run an example with arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: Any) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def test_own_loop_goes_from_raw_images_to_a_report(script, phantom_raw, capsys):
    script("own_loop.py", "--raw", f"busi={phantom_raw['busi']}", "--rounds", 1)
    printed = capsys.readouterr().out
    assert "round 1 of 1: training loss 0." in printed
    assert re.search(r"0\.\d+  client busi \(US, breast\): images \d, patients \d", printed)
    assert Path("own-loop/reports/flames/report.html").is_file()


def test_compare_strategies_prints_paired_differences(script, study, tmp_path, capsys):
    copy = shutil.copytree(study, tmp_path / "study")
    script("compare_strategies.py", "--workspace", copy, "--seeds", 1, "--rounds", 1)
    printed = capsys.readouterr().out
    assert "flames-1: validation Dice by seed 0." in printed
    assert re.search(r"clients\s+flames-1\s+fedavg-1\s+\d", printed) or "run flames-1" in printed


def test_use_a_model_writes_a_mask(script, study, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "image.png"), np.full((40, 60), 90, np.uint8))
    script("use_a_model.py", "--workspace", study, "--run", "flames", "image.png")
    assert "Model('flames-US', US, unet), trained on 7 images" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "image-mask.png")).shape == (40, 60, 3)


def calls_in(source: str) -> list[ast.Call]:
    """The calls of functions of `flames_cli`."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "flames"
    ]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_call_on_a_page_has_options_that_exist(page):
    for block in code_in(page):
        if not re.search(r"^[a-z(]", block) or "flames." not in block:
            continue
        for call in calls_in(block):
            assert isinstance(call.func, ast.Attribute)
            assert call.func.attr in flames.__all__, f"{page.name}: flames.{call.func.attr}"
            known = inspect.signature(getattr(flames, call.func.attr)).parameters
            assert {one.arg for one in call.keywords if one.arg} <= {*known}, ast.unparse(call)


def test_the_example_of_the_readme_is_five_lines():
    assert len([line for line in README.splitlines() if line]) == 5


@pytest.mark.long
def test_the_lines_of_the_readme_print_scores(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", README],
        cwd=tmp_path, env=shell_environment(**ONE_THREAD), capture_output=True, encoding="utf-8", timeout=600,
        check=True,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.startswith("flames: mean Dice\n")
    assert "server MRI (MRI, brain)" in result.stdout


@pytest.mark.long
def test_the_notebook_runs_in_an_empty_folder(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for name, value in shell_environment(**ONE_THREAD).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.get("name") == "stderr"]
