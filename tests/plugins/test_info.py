import json
import os

import pytest

from tests.support.plugins import make_package


@pytest.fixture
def three_plugins(site, tmp_path):
    make_package(
        site,
        "flames-good",
        {"trackers": {"note": "good_note:Note"}, "readers": {"paper": "good_note:NONE", "Bad": "x:y"}},
        {"good_note": "from flames_cli.trackers.csv_tables import CsvTracker as Note\nNONE = None"},
        "1.2.3",
    )
    make_package(site, "flames-bad", {"losses": {"sum": "no_such_module:SUM"}, "colours": {"red": "a:b"}})
    own = tmp_path / "own_plugins.py"
    own.write_text("print('hello')\ndef net(in_channels): pass\nMODELS = {'tiny': net, 'unet': net}\n")
    return own


def test_every_plug_in_is_listed_with_its_package_and_every_fault_in_one_line(three_plugins, flames):
    found = json.loads(flames("info", "--plugins", "--plugin", three_plugins, "--json").stdout)
    listed = [(one["group"], one["name"], one["package"]) for one in found["plugins"]]
    assert listed == [
        ("models", "tiny", "own_plugins.py"),
        ("models", "unet", "own_plugins.py"),
        ("readers", "paper", "flames-good"),
        ("losses", "sum", "flames-bad"),
        ("trackers", "note", "flames-good"),
    ]
    assert found["plugins"][0]["file"] == str(three_plugins)
    assert found["plugins"][-1]["version"] == "1.2.3"
    faults = "\n".join(found["problems"])
    assert len(found["problems"]) == 5
    assert "flames-bad 1.0: flames.colours is no group of plug-ins" in faults
    assert "flames-good 1.2.3: 'Bad' is no name of a plug-in" in faults
    assert "it gives the model 'unet', which is built in: the built-in one is used" in faults
    assert "the plug-in flames-bad 1.0 fails on import, which the loss 'sum' needs (ModuleNotFound" in faults
    assert "flames-good 1.2.3 gives the data set 'paper', which cannot be used: it is NoneType" in faults


def test_the_list_fits_into_80_columns(three_plugins, flames):
    result = flames("info", "--plugins", "--plugin", three_plugins)
    table = [line for line in result.stdout.splitlines() if not line.startswith("problem: ")]
    assert result.exit_code == 0
    assert max(map(len, table)) <= 80
    assert any(line.split()[:4] == ["trackers", "note", "flames-good", "1.2.3"] for line in table)


def test_info_counts_plug_ins_without_an_import_of_a_package(three_plugins, flames):
    assert json.loads(flames("info", "--json").stdout)["plugins"] == {"plugins": 3, "problems": 2}
    assert "3, 2 problems: see `flames info --plugins`" in flames("info").stdout


def test_without_a_plug_in_info_says_so(site, flames):
    assert flames("info", "--plugins").stdout.startswith("no plug-ins: ")
    assert json.loads(flames("info", "--plugins", "--json").stdout) == {"plugins": [], "problems": []}


def test_the_list_and_an_architecture_exclude_each_other(site, error_line):
    assert "got --plugins with --model unet" in error_line("info", "--plugins", "--model", "unet")


def test_the_environment_names_files_as_the_search_path_does(site, flames, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / f"{name}_of_env.py").write_text(f"MODELS = {{'{name}': len}}")
    files = [tmp_path / f"{name}_of_env.py" for name in ("one", "two")]
    monkeypatch.setenv("FLAMES_PLUGINS", os.pathsep.join(map(str, files)))
    found = json.loads(flames("info", "--plugins", "--json").stdout)
    assert [one["name"] for one in found["plugins"]] == ["one", "two"]


def test_a_missing_file_is_one_line(site, error_line):
    assert "--plugin /gone.py cannot be read" in error_line("info", "--plugin", "/gone.py", "--json")
    assert "--plugin /gone.py cannot be read" in error_line("federate", "--plugin", "/gone.py")


def test_the_help_of_federate_lists_plug_ins_and_runs_no_file(three_plugins, site, flames, monkeypatch):
    make_package(site, "one-more", {"strategies": {"odd": "no_module:ODD"}}, version="3.1")
    monkeypatch.setenv("FLAMES_PLUGINS", str(three_plugins))
    result = flames("federate", "--help")
    assert "odd: plug-in of one-more 3.1" in " ".join(result.stdout.split())
    assert "tiny" not in result.stdout
    assert "hello" not in result.output
