"""What a node accepts to run: FLAMES' own app and nothing else."""

import io
import stat
import zipfile
from dataclasses import replace
from typing import Any

import pytest
import tomli_w

from flames_cli.flower import app_guard
from flames_cli.flower.app_guard import (
    CLIENT_APP,
    MAX_FAB_BYTES,
    Guard,
    RejectedApp,
    check_fab,
    check_run,
)
from tests.support.app_bundles import OURS, description, fab, listed, pack

flower_packs = pytest.mark.filterwarnings("ignore:GitWildMatch:DeprecationWarning")
"""Flower asks its pathspec library for a name that is on its way out."""


def test_the_component_is_the_one_of_this_release():
    from flames_cli.fed import apps

    assert apps.CLIENT_APP == CLIENT_APP
    assert apps.client_app is not None


@flower_packs
def test_our_own_app_as_flower_packs_it_is_accepted(tmp_path):
    from flwr.cli.build import build_fab_from_disk

    text = tomli_w.dumps(description())
    (tmp_path / "pyproject.toml").write_text(text)

    assert check_fab(build_fab_from_disk(tmp_path)) == OURS


@flower_packs
def test_the_app_that_flames_submits_is_accepted(tmp_path):
    from flwr.cli.build import build_fab_from_disk

    from flames_cli.fed.engines.submitted import _write_app

    assert check_fab(build_fab_from_disk(_write_app(tmp_path / "app"))).publisher == "flames"


@pytest.mark.parametrize(
    "name",
    ["evil.py", "flames_cli/fed/apps.py", "data.bin", ".info/METADATA", "pyproject.toml/", "README"],
)
def test_an_app_with_any_other_file_is_refused(name):
    with pytest.raises(RejectedApp, match="it contains"):
        check_fab(fab(more={name: b"print()"}))


@pytest.mark.parametrize("name", ["../evil.py", "/etc/cron.d/evil", "..\\evil.py", "./pyproject.toml"])
def test_an_app_with_tricks_in_a_path_is_refused(name):
    with pytest.raises(RejectedApp, match="it contains"):
        check_fab(fab(more={name: b""}))


def test_a_name_cut_short_by_a_null_byte_is_refused():
    text = tomli_w.dumps(description()).encode()
    files = {"pyproject.tomlX.py": text, ".info/CONTENT": listed(text).encode()}

    with pytest.raises(RejectedApp, match="it contains"):
        check_fab(pack(files).replace(b"pyproject.tomlX.py", b"pyproject.toml\x00.py"))


def test_a_file_that_is_there_twice_is_refused():
    twice = io.BytesIO(fab())
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("pyproject.toml", "")

    with pytest.raises(RejectedApp, match="it contains"):
        check_fab(twice.getvalue())


@pytest.mark.parametrize("missing", ["pyproject.toml", ".info/CONTENT"])
def test_an_app_that_lacks_a_file_is_refused(missing):
    text = tomli_w.dumps(description()).encode()
    files = {"pyproject.toml": text, ".info/CONTENT": listed(text).encode()}

    with pytest.raises(RejectedApp):
        check_fab(pack({name: content for name, content in files.items() if name != missing}))


def test_a_link_instead_of_a_file_is_refused():
    text = tomli_w.dumps(description()).encode()

    with pytest.raises(RejectedApp, match="plain file"):
        check_fab(pack({"pyproject.toml": text, ".info/CONTENT": b""}, mode=stat.S_IFLNK | 0o777))


@pytest.mark.parametrize("contents", ["", "/dev/zero,0,0", "{ours}\n/dev/zero,0,0", "../x,0,0", "{ours}\n"])
def test_a_list_of_files_that_names_others_is_refused(contents):
    text = tomli_w.dumps(description()).encode()
    files = {"pyproject.toml": text, ".info/CONTENT": contents.replace("{ours}", listed(text)).encode()}

    with pytest.raises(RejectedApp, match="does not list"):
        check_fab(pack(files))


@pytest.mark.parametrize(
    "components",
    [
        {"serverapp": "a:b", "clientapp": "os:system"},
        {"serverapp": "a:b", "clientapp": CLIENT_APP + " "},
        {"serverapp": "a:b", "clientapp": CLIENT_APP + ".__class__"},
        {"serverapp": "a:b", "clientapp": "flames_cli.fed.apps:make_client_app"},
        {"serverapp": "a:b", "clientapp": [CLIENT_APP]},
        {"serverapp": "a:b", "clientapp": CLIENT_APP, "agentapp": "os:system"},
        {"clientapp": CLIENT_APP},
        {"agentapp": "os:system"},
        {},
        [],
    ],
)
def test_an_app_with_another_component_is_refused(components):
    with pytest.raises(RejectedApp):
        check_fab(fab(components=components))


@pytest.mark.parametrize("name", ["publisher", "name", "version"])
@pytest.mark.parametrize("value", ["../../x", "a/b", "", ".", "a\nb", 7, "a" * 101])
def test_an_app_whose_names_lead_elsewhere_is_refused(name, value):
    with pytest.raises(RejectedApp, match="publisher, name or version"):
        check_fab(fab(**{name: value}))


def test_what_unpacks_to_too_much_is_refused_unread():
    bomb = fab(b"#" * 50_000_000)
    assert len(bomb) < MAX_FAB_BYTES

    with pytest.raises(RejectedApp, match="bytes unpacked"):
        check_fab(bomb)


def test_a_false_size_does_not_help_a_bomb():
    bomb = fab(b"#" * 5_000_000).replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little"))

    with pytest.raises(RejectedApp, match="cannot be read"):
        check_fab(bomb)


def test_what_is_too_large_is_refused_unopened():
    with pytest.raises(RejectedApp, match="less than"):
        check_fab(b"PK" + bytes(MAX_FAB_BYTES))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(100), b"\x1f\x8b" + bytes(50)])
def test_what_is_no_zip_is_refused(content):
    with pytest.raises(RejectedApp, match="cannot be read"):
        check_fab(content)


@pytest.mark.parametrize("at", range(0, 600, 7))
def test_a_damaged_app_is_ours_or_refused(at):
    content = bytearray(fab())
    content[at % len(content)] ^= 0xFF

    try:
        assert check_fab(bytes(content)) == OURS
    except RejectedApp:
        return


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[", b"a = " + b"[" * 3000, b"[tool]\nflwr = 1"])
def test_a_description_that_is_none_is_refused(text):
    with pytest.raises(RejectedApp):
        check_fab(fab(text))


def test_a_run_of_our_app_is_accepted():
    assert check_run("flames/flames-federation", "0.1.0", "flwr-serverapp") == OURS
    assert check_run("flames/flames-federation", "0.1.0", "") == OURS


@pytest.mark.parametrize(
    ("app_id", "version", "kind"),
    [
        ("flames/flames-federation", "0.1.0", "flwr-agentapp"),
        ("flames/flames-federation", "0.1.0", "flwr-simulation"),
        ("flames/flames-federation", "0.1.0/../../../tmp/x", "flwr-serverapp"),
        ("flames/../flames", "0.1.0", "flwr-serverapp"),
        ("flames", "0.1.0", "flwr-serverapp"),
        ("", "", ""),
    ],
)
def test_a_run_of_another_kind_or_name_is_refused(app_id, version, kind):
    with pytest.raises(RejectedApp):
        check_run(app_id, version, kind)


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Lines of the node's log."""
    lines: list[str] = []
    monkeypatch.setattr(app_guard.LOG, "error", lambda text, *values: lines.append(text % values))
    return lines


def guard(content: bytes, **changes: Any) -> Guard:
    """A guard before a server that sends this app."""
    from flwr.supercore.fab import Fab
    from flwr.supercore.run import Run

    run = replace(Run.create_empty(7), fab_id="flames/flames-federation", fab_version="0.1.0", **changes)
    return Guard(lambda number: run, lambda number, run_id: Fab("", content, {}))


def test_a_guarded_node_gets_our_app(log):
    guarded = guard(fab())

    assert guarded.get_run(7).run_id == 7
    assert guarded.get_fab("", 7).content == fab()
    assert log == []


def test_flower_ignores_the_message_of_a_refused_app_and_the_log_says_why(log):
    from flwr.supercore.run import RunNotRunningException

    guarded = guard(fab(more={"evil.py": b""}))
    guarded.get_run(7)

    with pytest.raises(RunNotRunningException):
        guarded.get_fab("", 7)
    assert log == ["FLAMES rejects the app of run 7: it contains 'evil.py'; only pyproject.toml is allowed"]


def test_an_app_under_another_name_than_its_runs_is_refused(log):
    from flwr.supercore.run import RunNotRunningException

    guarded = guard(fab(version="0.2.0"))
    guarded.get_run(7)

    with pytest.raises(RunNotRunningException):
        guarded.get_fab("", 7)
    assert "its own description names" in log[0]


def test_an_app_of_a_run_that_was_not_checked_is_refused(log):
    from flwr.supercore.run import RunNotRunningException

    with pytest.raises(RunNotRunningException):
        guard(fab()).get_fab("", 7)


def test_a_run_for_an_agent_is_refused(log):
    from flwr.supercore.run import RunNotRunningException

    with pytest.raises(RunNotRunningException):
        guard(fab(), primary_task_type="flwr-agentapp").get_run(7)


def test_nothing_but_our_app_gets_into_the_nodes_state(log):
    from flwr.supercore.fab import Fab
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supercore.run import RunNotRunningException

    from flames_cli.flower.node_state import GuardedState

    state = GuardedState(ObjectStoreFactory().store())

    assert state.get_fab(state.store_fab(Fab("", fab(), {}))).content == fab()
    with pytest.raises(RunNotRunningException):
        state.store_fab(Fab("", fab(more={"evil.py": b""}), {}))
