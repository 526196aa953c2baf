import json

from flames_cli import __version__
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.models import MODELS
from flames_cli.readers import READERS
from flames_cli.stages.info import stage as module
from flames_cli.stages.info.stage import info


def test_everything_known_is_named(tmp_path):
    found = info(tmp_path)
    assert found["flames"] == __version__
    assert set(found["datasets"]) == set(READERS)
    assert found["datasets"]["busi"] == "breast US"
    assert found["models"] == sorted(MODELS)
    assert set(found["strategies"]) == set(ALGORITHMS)
    assert found["cpus"] >= 1
    assert found["devices"]


def test_every_package_that_decides_results_has_its_version(tmp_path, monkeypatch):
    assert all(version[0].isdigit() for version in info(tmp_path)["packages"].values())
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-of-ours",))
    assert info(tmp_path)["packages"] == {"no-such-package-of-ours": "not installed"}


def test_an_empty_workspace_holds_nothing(tmp_path):
    held = info(tmp_path / "none")["workspace"]
    assert held == {
        "path": str(tmp_path / "none"),
        "exists": False,
        "preprocessed": [],
        "partitions": [],
        "runs": [],
        "models": [],
    }


def test_a_workspace_is_described_by_its_files(trained):
    held = info(trained)["workspace"]
    assert held["preprocessed"] == ["brats", "busi", "otu2d"]
    assert held["partitions"] == ["default"]
    assert held["runs"] == ["fedavg", "flames", "local"]


def test_the_result_can_be_written_as_json(trained):
    assert json.loads(json.dumps(info(trained))) == info(trained)
