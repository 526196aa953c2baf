"""The plug-ins of a stored run: they are among its facts, and each command that needs one says which."""

import os
import tomllib
from pathlib import Path

import pytest

from flames_cli.config import ExportConfig, FederateConfig, ReportConfig, load_section
from flames_cli.errors import FlamesError
from flames_cli.plugins import use_files
from flames_cli.stages.export.stage import export
from flames_cli.stages.federate.continuing import continued_options
from flames_cli.stages.federate.stage import check_inputs, federate
from flames_cli.stages.report.stage import report
from tests.support.plugins import make_package, make_site
from tests.support.stages import evaluate_run, federate_config

__all__ = ["make_site"]

MEAN = """
from flames_cli.core.federated.algorithm import Algorithm
MEAN = Algorithm(local_update="plain", groups="all", blend="mean", summary="one mean")
"""


def config_of(space: Path, **options):
    return federate_config(space, **{"strategy": "own-mean", "rounds": 1, **options})


@pytest.fixture
def install(site, monkeypatch):
    """install("2.0"): the package of the strategy `own-mean` in that version, and in no other."""
    count = 0

    def put(version: str) -> None:
        nonlocal count
        count += 1
        folder = site.parent / f"site-{count}"
        folder.mkdir()
        if version:
            make_package(
                folder, "own", {"strategies": {"own-mean": "own_mean:MEAN"}}, {"own_mean": MEAN}, version
            )
        monkeypatch.undo()
        monkeypatch.syspath_prepend(folder)

    return put


@pytest.fixture
def run(tiny, install):
    """A workspace with a run of one round by a plug-in's strategy."""
    space = tiny()
    install("1.0")
    federate(config_of(space))
    return space


USES = {
    "a longer run": lambda space: federate(config_of(space, rounds=2)),
    "an evaluation": lambda space: evaluate_run(space, "own-mean"),
    "an export": lambda space: export(ExportConfig(workspace=space, run="own-mean")),
    "a report": lambda space: report(ReportConfig(workspace=space, run="own-mean", device="cpu")),
}


def test_the_facts_of_a_run_name_its_plug_ins(run):
    facts = tomllib.loads((run / "runs" / "own-mean" / "config.toml").read_text())["run"]
    assert facts["plugins"] == ["strategies/own-mean own 1.0"]


def test_a_run_without_plug_ins_has_no_such_fact(tiny):
    space = tiny()
    federate(federate_config(space, rounds=1, strategy="fedavg"))
    assert "plugins" not in (space / "runs" / "fedavg" / "config.toml").read_text()


def test_a_missing_plug_in_is_named_with_what_to_do(run, install):
    install("")
    for use in USES.values():
        with pytest.raises(FlamesError) as error:
            use(run)
        assert str(error.value) == (
            "run 'own-mean' needs the strategy 'own-mean' of the plug-in own 1.0, which is not there; "
            "install it (pip install own==1.0), or pass --plugin FILE"
        )


def test_another_version_is_noted_and_the_run_continues(run, install):
    install("2.0")
    note = "run 'own-mean' used the strategy 'own-mean' of own 1.0, now it is of own 2.0"
    assert note in federate(config_of(run, rounds=2)).notes
    assert note not in federate(config_of(run, rounds=3)).notes
    facts = tomllib.loads((run / "runs" / "own-mean" / "config.toml").read_text())["run"]
    assert facts["plugins"] == ["strategies/own-mean own 2.0"]


def test_another_version_is_noted_by_what_uses_the_run(run, install):
    install("2.0")
    assert "now it is of own 2.0" in evaluate_run(run, "own-mean").content.runs[0].why
    assert "now it is of own 2.0" in export(ExportConfig(workspace=run, run="own-mean", model="MRI")).notes[0]


def test_a_file_does_the_same_and_its_content_is_its_version(tiny, site, tmp_path, monkeypatch):
    file = tmp_path / "mean_of_mine.py"
    file.write_text(MEAN + "STRATEGIES = {'own-mean': MEAN}\n")
    use_files([file])
    space = tiny()
    federate(config_of(space))
    (fact,) = tomllib.loads((space / "runs" / "own-mean" / "config.toml").read_text())["run"]["plugins"]
    assert fact.startswith("strategies/own-mean mean_of_mine.py sha256:")
    monkeypatch.delenv("FLAMES_PLUGINS")
    with pytest.raises(FlamesError, match=r"pass --plugin FILE with the path of mean_of_mine.py$"):
        federate(config_of(space, rounds=2))
    file.write_text(file.read_text() + "# other\n")
    use_files([file])
    assert "now it is of mean_of_mine.py sha256:" in federate(config_of(space, rounds=2)).notes[0]


def test_no_code_of_a_file_goes_to_real_nodes(tiny, site, tmp_path):
    file = tmp_path / "mean_for_nodes.py"
    file.write_text(MEAN + "STRATEGIES = {'own-mean': MEAN}\n")
    use_files([file])
    with pytest.raises(FlamesError, match=r"the plug-in strategies/own-mean of the file .*make a package"):
        check_inputs(config_of(tiny(), engine="superlink"))


def test_the_file_of_a_run_names_no_code(run, tmp_path):
    hostile = tmp_path / "hostile.py"
    hostile.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nSTRATEGIES = {{}}\n")
    config = run / "runs" / "own-mean" / "config.toml"
    config.write_text(config.read_text().replace("[federate]", f"[federate]\nplugins = ['{hostile}']"))
    for use in (
        lambda: continued_options(run, "own-mean", {}),
        lambda: load_section(FederateConfig, {}, config),
    ):
        with pytest.raises(FlamesError, match="names files of plug-ins, which no file of a run may do"):
            use()
    evaluate_run(run, "own-mean")
    assert not (tmp_path / "ran").exists()
    assert "FLAMES_PLUGINS" not in os.environ
