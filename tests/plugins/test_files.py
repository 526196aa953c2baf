import os
import subprocess
import sys
from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.plugins import Registry, use_files
from flames_cli.plugins.files import FILES_VARIABLE, files_in_use


@pytest.fixture(autouse=True)
def _clean(site):
    pass


def models() -> Registry:
    return Registry("models", {"plain": abs})


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_gives_the_members_of_its_dictionaries(tmp_path):
    file = write(tmp_path / "given.py", "MODELS = {'tiny': len}\nREADERS = {'mine': 3}")
    use_files([file])
    assert models()["tiny"] is len
    origin = models().origin("tiny")
    assert (origin.package, origin.file) == ("given.py", file)
    assert len(origin.version) == len("sha256:") + 12
    assert origin.fact == f"models/tiny given.py {origin.version}"
    assert Registry("readers", {})["mine"] == 3


def test_a_file_runs_once_and_only_when_it_is_needed(tmp_path):
    mark = tmp_path / "mark"
    use_files(
        [
            write(
                tmp_path / "counted.py",
                f"with open({str(mark)!r}, 'a') as f: f.write('x')\nMODELS = {{'tiny': len}}",
            )
        ]
    )
    assert models()["plain"] is abs
    assert list(models().listed()) == ["plain"]
    assert not mark.exists()
    assert list(models()) == ["plain", "tiny"]
    assert models()["tiny"] is len
    assert mark.read_text() == "x"


@pytest.mark.parametrize("folder", ["with space", "ümläut 画像", "it's"])
def test_the_path_of_a_file_may_have_any_letters(folder, tmp_path, monkeypatch):
    write(tmp_path / folder / "näme of mine.py", "MODELS = {'tiny': len}")
    monkeypatch.chdir(tmp_path / folder)
    use_files(["näme of mine.py"])
    monkeypatch.chdir(tmp_path)
    assert models()["tiny"] is len
    assert os.environ[FILES_VARIABLE] == str(tmp_path / folder / "näme of mine.py")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_in_a_read_only_folder_is_used(tmp_path):
    file = write(tmp_path / "fixed" / "locked.py", "MODELS = {'tiny': len}")
    file.parent.chmod(0o500)
    use_files([file])
    assert models()["tiny"] is len


def test_nothing_is_written_next_to_a_file(tmp_path):
    file = write(tmp_path / "own" / "tidy.py", "MODELS = {'tiny': len}")
    use_files([file])
    assert "tiny" in models()
    assert [*file.parent.iterdir()] == [file]


def test_another_process_uses_the_same_files(tmp_path):
    use_files([write(tmp_path / "shared_one.py", "MODELS = {'tiny': len}")])
    code = "from flames_cli.plugins import Registry; print(Registry('models', {})['tiny'])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert found.stdout == "<built-in function len>\n"


WRONG = {
    "missing": ("gone.py", None, r"--plugin .*gone.py cannot be read \(No such file"),
    "no Python file": ("net.txt", "MODELS = {}", r"--plugin got .*net.txt, expected a Python file"),
    "wrong syntax": (
        "net.py",
        "MODELS = {",
        r"--plugin .*net.py is no valid Python \(SyntaxError: .*never cl",
    ),
    "zero bytes": ("net.py", "a = '\0'", r"is no valid Python"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_cannot_be_used_is_named_before_anything_runs(what, tmp_path):
    name, text, message = WRONG[what]
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(FlamesError, match=message):
        use_files([tmp_path / name])
    assert FILES_VARIABLE not in os.environ


def test_a_folder_is_no_plug_in(tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(FlamesError, match=r"folder.py cannot be read \(Is a directory\)"):
        use_files([tmp_path / "folder.py"])


def test_two_files_of_one_name_exclude_each_other(tmp_path):
    files = [write(tmp_path / folder / "same.py", "MODELS = {}") for folder in ("a", "b")]
    with pytest.raises(FlamesError, match="two files of one name; expected names that differ"):
        use_files(files)
    use_files([files[0], files[0]])
    assert len(files_in_use()) == 1


FAULTS = {
    "an error": ("raise ValueError('why')", r"fails on import \(ValueError: why\)"),
    "an exit": ("import sys; sys.exit()", r"fails on import \(SystemExit\)"),
    "no dictionary": ("MODEL = {'tiny': len}", "has none of the dictionaries MODELS, STRATEGIES, READERS"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_file_that_fails_is_named_where_an_unknown_name_may_be_its(what, tmp_path):
    text, message = FAULTS[what]
    use_files([write(tmp_path / f"failing_{what.replace(' ', '_')}.py", text)])
    assert models()["plain"] is abs
    assert list(models()) == ["plain"]
    with pytest.raises(FlamesError, match=f"model 'tiny' is not known, and the plug-in file .* {message}"):
        models().look_up("tiny")


def test_wrong_dictionaries_and_names_cost_nothing_but_themselves(tmp_path):
    text = "MODELS = {'tiny': len, 'Big': len, 3: len}\nLOSSES = ['a']\nREADERS = {}"
    use_files([write(tmp_path / "mixed.py", text)])
    assert list(models()) == ["plain", "tiny"]
    assert [one.name for one in models().problems()] == ["Big", "3"]
    assert [one.text for one in Registry("losses", {}).problems()] == [
        "LOSSES is list, expected a dictionary"
    ]


def test_a_file_and_a_package_that_give_one_name_exclude_each_other(tmp_path, site):
    from tests.support.plugins import make_package

    make_package(site, "pack", {"models": {"tiny": "math:sqrt"}})
    use_files([write(tmp_path / "rival.py", "MODELS = {'tiny': len}")])
    with pytest.raises(FlamesError, match=r"two plug-ins, pack 1.0 and rival.py sha256:"):
        models().look_up("tiny")


def test_an_edited_file_is_loaded_again_when_it_is_named_again(tmp_path):
    file = write(tmp_path / "edited.py", "MODELS = {'tiny': 1}")
    use_files([file])
    assert models()["tiny"] == 1
    write(file, "MODELS = {'tiny': 2}")
    assert models()["tiny"] == 1
    use_files([file])
    assert models()["tiny"] == 2


def test_a_file_that_asks_for_plug_ins_while_it_is_loaded_does_not_load_itself_again(tmp_path):
    code = "from flames_cli.plugins import Registry\nSEEN = list(Registry('models', {}))\n"
    code += "MODELS = {'tiny': SEEN}"
    use_files([write(tmp_path / "asking.py", code)])
    assert models()["tiny"] == []


def test_what_a_file_prints_does_not_reach_stdout(tmp_path, capsys):
    use_files([write(tmp_path / "printing.py", "print('hello')\nMODELS = {'tiny': 1}")])
    assert "tiny" in models()
    assert capsys.readouterr() == ("", "hello\n")
