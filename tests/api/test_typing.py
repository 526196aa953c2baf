"""A user's script passes mypy --strict: the package has types for exactly its public names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ROOT

SCRIPT = '''
import flames_cli as flames
from flames_cli import Event, FederateConfig, Workspace, federate, load_model

study = Workspace("study")
config = FederateConfig(strategy="flames", rounds=3, workspace=study.path)


def show(event: Event) -> None:
    print(event.record.train_loss if event.record else event.text)


run: flames.Run = federate(config, progress=show, seed=3)
losses: list[float] = [one.train_loss for one in run.rounds if one.train_loss is not None]
models: list[str] = [score.model for score in flames.evaluate(run=run.name, workspace=study).server]
size: int = load_model(run="flames", modality="US", workspace=study).facts.input.size


class Mine(flames.SegmentationModel):
    """A model of a plug-in."""


try:
    flames.open_run("gone", study)
except flames.MissingArtifact as error:
    print(error)
wrong: int = run.name
'''


STRICT = ("--strict", "--follow-imports=silent", "--no-error-summary")
"""Errors of the script alone: an installed package has none of its own."""


@pytest.mark.long
def test_a_script_of_a_user_passes_mypy_and_its_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(SCRIPT, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *STRICT, "user.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, encoding="utf-8",
        timeout=600, check=False,
    )  # fmt: skip
    (line,) = result.stdout.splitlines()
    assert line.startswith("user.py:")
    assert 'expression has type "str", variable has type "int"' in line
