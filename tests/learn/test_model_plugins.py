from dataclasses import replace

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.learn.formats.programs import build_program
from flames_cli.learn.model_plugins import require_model_plugin
from flames_cli.learn.models import build_model, plugin_of
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.use import open_model
from flames_cli.plugins import FILES_VARIABLE, use_files
from flames_cli.plugins.installed import _read
from flames_cli.store.models import INFO as INFO_FILE
from flames_cli.store.models import Architecture, read_model, read_model_info
from tests.support.model_folders import INFO, make_folder
from tests.support.plugins import make_package, make_site

__all__ = ["make_site"]

NET = """
from torch import nn

def net(in_channels, width: int = 4):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ConvTranspose2d(width, 1, 2, 2)
    )
"""
OPTIONS = {"in_channels": 1, "width": 3}


@pytest.fixture(autouse=True)
def _fresh_packages(site):
    _read.cache_clear()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine (1).py"
    path.write_text(NET + 'MODELS = {"their-net": net}\n')
    use_files([path])
    return path


@pytest.fixture
def folder(file, tmp_path):
    weights = to_weights(build_model("their-net", seed=1, **OPTIONS))
    made = Architecture("their-net", "batch", dict(OPTIONS), plugin_of("their-net"))
    return make_folder(tmp_path / "m", weights, architecture=made)


def open_folder(folder):
    info, weights = read_model(folder)
    return open_model(info, weights, "cpu", "fp32")


def test_a_folder_names_the_plug_in_and_its_version(folder):
    plugin = read_model_info(folder).architecture.plugin
    assert plugin.startswith("mine _1_.py sha256:")
    assert "plugin" not in (make_folder(folder.parent / "built-in") / INFO_FILE).read_text()


def test_a_model_of_a_plug_in_gives_its_probabilities(folder):
    images = np.random.default_rng(0).random((3, 32, 32), np.float32)
    found = open_folder(folder).probabilities(images)
    info, weights = read_model(folder)
    program = build_program(info, weights)
    assert found.shape == (3, 32, 32)
    assert list(weights) == list(program.model.net.state_dict())


def test_without_the_file_the_model_says_what_it_needs_and_no_file_is_looked_for(folder, monkeypatch):
    monkeypatch.delenv(FILES_VARIABLE)
    with pytest.raises(
        FlamesError, match=r"model 'tiny' needs the model 'their-net' of the plug-in mine _1_\.py sha"
    ):
        open_folder(folder)


def test_without_the_package_the_model_says_how_to_install_it(tmp_path, monkeypatch):
    made = Architecture("their-net", "batch", dict(OPTIONS), "some-nets 1.2")
    folder = make_folder(tmp_path / "m", {}, architecture=made)
    with pytest.raises(
        FlamesError, match=r"plug-in some-nets 1.2, .*\(pip install some-nets==1.2\), or pass"
    ):
        open_folder(folder)


def test_another_version_is_a_note_and_the_weights_are_still_checked(site, tmp_path):
    make_package(site, "some-nets", {"models": {"their-net": "their_nets:net"}}, {"their_nets": NET}, "1.3")
    made = Architecture("their-net", "batch", dict(OPTIONS), "some-nets 1.2")
    weights = to_weights(build_model("their-net", seed=1, **OPTIONS))
    folder = make_folder(tmp_path / "m", weights, architecture=made)
    (note,) = require_model_plugin(read_model_info(folder))
    assert "of some-nets 1.2, now it is of some-nets 1.3" in note
    open_folder(folder)
    wrong = make_folder(tmp_path / "w", {**weights, "0.bias": np.zeros(4, np.float32)}, architecture=made)
    with pytest.raises(FlamesError, match=r"0\.bias has shape \(4,\), expected \(3,\)"):
        open_folder(wrong)


@pytest.mark.parametrize(
    "plugin",
    ["x; rm -rf / 1.0", "$(id) 1", "x\n1.0", "x", "", "../../x.py sha256:0", "-r evil 1.0", "a" * 200 + " 1"],
)
def test_a_folder_cannot_put_a_command_into_the_advice(plugin, tmp_path):
    with pytest.raises(FlamesError, match=r"cannot be written|architecture.plugin is not possible"):
        make_folder(tmp_path / "m", architecture=replace(INFO.architecture, plugin=plugin))
    folder = make_folder(tmp_path / "good", architecture=replace(INFO.architecture, plugin="good 1.0"))
    path = folder / INFO_FILE
    path.write_text(path.read_text().replace('"good 1.0"', repr(plugin) if "\n" not in plugin else '"x\\n1"'))
    with pytest.raises(FlamesError, match=r"model\.toml cannot be read"):
        read_model_info(folder)
