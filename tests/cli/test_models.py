import json
import re

import pytest

from flames_cli.cli import models_command
from flames_cli.cli.names import known_names
from flames_cli.stages.models.listing import list_names
from flames_cli.store.model_archives import pack_model
from flames_cli.store.workspace import model_folder
from tests.support.model_folders import make_folder


@pytest.fixture
def archive(tmp_path):
    pack_model(make_folder(tmp_path / "source" / "tiny"), tmp_path / "tiny.zip")
    return tmp_path / "tiny.zip"


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "workspace"


def text_of(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_model_is_added_listed_shown_and_removed(flames, archive, workspace):
    added = text_of(flames("models", "add", archive, "--workspace", workspace))
    assert added.startswith("model tiny: installed\n")
    assert added.endswith("next: flames predict --model tiny FILE…\n")
    listed = text_of(flames("models", "list", "--workspace", workspace))
    assert re.match(r"tiny \([\d.]+ KiB\)\n  MRI images of brain, grey, 32×32 pixels, unet\n", listed)
    shown = text_of(flames("models", "show", "tiny", "--workspace", workspace))
    assert "trained on client a: MRI of brain, 9 images of 3 patients" in shown
    assert "0 to the 95th percentile of all voxels" in shown
    again = text_of(flames("models", "add", archive, "--workspace", workspace))
    assert again.startswith("model tiny: there already, with the same content\n")
    removed = text_of(flames("models", "rm", "tiny", "--yes", "--workspace", workspace))
    assert removed.startswith("removed tiny: ")
    assert list_names(workspace) == []
    nothing = text_of(flames("models", "list", "--workspace", workspace))
    assert nothing == f"no model in {workspace / 'models'}\nnext: flames export, or flames models add FILE\n"


def test_json_has_what_the_text_has(flames, archive, workspace):
    added = json.loads(text_of(flames("models", "add", archive, "--json", "--workspace", workspace)))
    assert (added["model"], added["new"]) == ("tiny", True)
    (listed,) = json.loads(text_of(flames("models", "list", "--json", "--workspace", workspace)))["models"]
    shown = json.loads(text_of(flames("models", "show", "tiny", "--json", "--workspace", workspace)))
    assert listed == shown
    assert (shown["model"]["sha256"], shown["model"]["input"]["size"]) == (added["sha256"], 32)
    removed = json.loads(text_of(flames("models", "rm", "tiny", "--yes", "--json", "--workspace", workspace)))
    assert (removed["removed"], removed["bytes"]) == (["tiny"], shown["bytes"])


def test_nothing_is_removed_without_a_terminal_or_after_a_no(flames, error_line, workspace, monkeypatch):
    make_folder(model_folder(workspace, "tiny"))
    assert "pass --yes to remove" in error_line("models", "rm", "tiny", "--workspace", workspace)
    monkeypatch.setattr(models_command, "is_terminal", lambda: True)
    result = flames("models", "rm", "tiny", "--workspace", workspace)
    assert result.exit_code != 0
    assert list_names(workspace) == ["tiny"]


def test_errors_are_one_line(error_line, workspace, tmp_path):
    assert "no model 'gone'" in error_line("models", "show", "gone", "--workspace", workspace, code=3)
    assert "no file" in error_line("models", "add", tmp_path / "gone.zip", "--workspace", workspace, code=3)
    (tmp_path / "odd.zip").write_bytes(b"\x1b[2J")
    assert "\x1b" not in error_line("models", "add", tmp_path / "odd.zip", "--workspace", workspace)
    make_folder(model_folder(workspace, "bad"))
    (model_folder(workspace, "bad") / "model.toml").write_text("[")
    assert "cannot be read" in error_line("models", "show", "bad", "--workspace", workspace)


def test_names_of_models_are_completed(workspace):
    for name in ("b", "a"):
        make_folder(model_folder(workspace, name), name=name)
    assert known_names("model folders", workspace) == ["a", "b"]
