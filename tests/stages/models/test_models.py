import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.models.adding import add_model
from flames_cli.stages.models.listing import find_entry, list_entries, list_names
from flames_cli.stages.models.removal import plan_removal, remove_models
from flames_cli.store.files.locks import locked
from flames_cli.store.model_archives import pack_model
from flames_cli.store.models import read_model
from flames_cli.store.workspace import model_folder
from tests.support.model_folders import INFO, files_of, make_folder, make_zip


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "source" / "tiny")


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "workspace"


def test_a_packed_model_is_installed_with_the_same_bytes(folder, workspace, tmp_path):
    pack_model(folder, tmp_path / "tiny.zip")
    added = add_model(workspace, tmp_path / "tiny.zip")
    assert (added.is_new, added.info.name) == (True, "tiny")
    assert files_of(added.folder) == files_of(folder)
    again = add_model(workspace, tmp_path / "tiny.zip")
    assert (again.is_new, again.info) == (False, added.info)


@pytest.mark.parametrize("prefix", ["", "tiny/", "another name/"])
def test_zip_files_of_other_programs_are_read(prefix, folder, workspace, tmp_path):
    files = files_of(folder, prefix)
    source = make_zip(tmp_path / "m.ZIP", {**({prefix: b""} if prefix else {}), **files})
    assert files_of(add_model(workspace, source).folder) == files_of(folder)


def test_a_folder_is_installed_under_another_name(folder, workspace):
    added = add_model(workspace, folder, "mine")
    info, _ = read_model(model_folder(workspace, "mine"))
    assert info == added.info
    assert (info.name, info.sha256) == ("mine", read_model(folder)[0].sha256)


def test_a_file_that_is_not_there_or_is_no_zip_is_named(workspace, tmp_path):
    with pytest.raises(MissingArtifact, match=r"no file .*gone.zip, expected the zip file or the folder"):
        add_model(workspace, tmp_path / "gone.zip")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(FlamesError, match=r"is not a zip file \(its name ends with '.h5'\)"):
        add_model(workspace, tmp_path / "weights.h5")
    assert not workspace.exists()


def test_the_message_about_a_zip_file_names_the_file_and_no_temporary_folder(folder, workspace, tmp_path):
    files = files_of(folder)
    files["model.toml"] = files["model.toml"].replace(b"threshold = 0.5", b"threshold = 1.5")
    with pytest.raises(FlamesError) as caught:
        add_model(workspace, make_zip(tmp_path / "m.zip", files))
    assert str(caught.value).startswith(f"{tmp_path / 'm.zip'}/model.toml cannot be read (threshold")


def test_a_model_that_another_process_writes_is_left_alone(folder, workspace):
    with locked(model_folder(workspace, "tiny")), pytest.raises(FlamesError, match="another process writes"):
        add_model(workspace, folder)
    assert list_names(workspace) == []


def test_models_are_listed_by_name_damaged_ones_too(workspace):
    for name in ("b", "a", "c", ".hidden"):
        make_folder(model_folder(workspace, name), name=name)
    (model_folder(workspace, "b") / "model.toml").write_text("[")
    (workspace / "models" / "notes").mkdir()
    found = list_entries(workspace)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert [bool(one.damage) for one in found] == [False, True, False]
    assert found[0].size_bytes == sum(len(content) for content in files_of(found[0].folder).values())


def test_a_model_is_found_by_its_name_or_its_folder(folder, workspace):
    add_model(workspace, folder)
    assert find_entry(workspace, "tiny").folder == model_folder(workspace, "tiny")
    assert find_entry(workspace, str(folder)).folder == folder
    with pytest.raises(MissingArtifact, match=r"no model 'gone' in .*models, expected one of tiny"):
        find_entry(workspace, "gone")


def test_only_the_named_models_are_removed(workspace):
    for name in ("a", "b"):
        make_folder(model_folder(workspace, name), name=name)
    (workspace / "models" / "a.zip").write_bytes(b"x")
    remove_models(plan_removal(workspace, ["a", "a"]))
    assert list_names(workspace) == ["b"]
    assert (workspace / "models" / "a.zip").exists()
    assert not list((workspace / "models").glob(".a*tmp"))


@pytest.mark.parametrize("name", ["gone", "../models/a", "a/", ".", "", "notes"])
def test_what_is_not_a_model_of_the_workspace_is_not_removed(name, workspace):
    make_folder(model_folder(workspace, "a"), name="a")
    (workspace / "models" / "notes").mkdir()
    with pytest.raises(MissingArtifact, match="no model"):
        plan_removal(workspace, ["a", name])
    assert list_names(workspace) == ["a"]


def test_no_model_is_removed_while_a_process_writes_one(workspace):
    for name in ("a", "b"):
        make_folder(model_folder(workspace, name), name=name)
    found = plan_removal(workspace, ["a", "b"])
    with locked(model_folder(workspace, "b")), pytest.raises(FlamesError, match="no model was removed"):
        remove_models(found)
    assert list_names(workspace) == ["a", "b"]


def test_the_models_of_these_tests_are_those_that_are_read(folder):
    assert read_model(folder)[0].training == INFO.training
