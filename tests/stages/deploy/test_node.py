"""A site's node: its settings, and how it is run."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.node import NodeSettings, settings_of
from flames_cli.stages.deploy import node
from flames_cli.stages.deploy.identity import pin_peers, site_identity
from flames_cli.stages.deploy.node import find_site, join, node_command, node_config, settings_for
from flames_cli.store.deployment import certificates
from flames_cli.store.deployment.identity import identity_text
from flames_cli.store.workspace import partition_folder

FAILS = "print('[code: 2004] Failed to activate SuperNode.')"
JOINS = "print('SuperNode ID: 5', flush=True)"
STAYS = f"{JOINS}; import time; time.sleep(60)"


@pytest.fixture(scope="module")
def shard(workspace) -> Path:
    return Path(partition_folder(workspace()) / "shards" / "busi.h5")


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_site_is_where_its_folder_is(deployment, monkeypatch):
    monkeypatch.chdir(deployment.site("a").path)

    assert find_site(None, None).name == "a"
    assert find_site(deployment.site("b").path, None) == replace(deployment.site("b"))
    assert find_site(None, "other:9092").superlink == "other:9092"
    assert find_site(None, "other:9092", stand_in="busi").name == "a"


def test_without_a_folder_a_trial_gets_one_named_after_its_shard_or_as_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert find_site(None, "localhost:9092", stand_in="busi").path == Path("flames-node-busi")
    assert find_site(None, "localhost:9092", stand_in="busi", name="x").name == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, r"no site\.toml"),
        ({"superlink": "server"}, "not HOST:PORT"),
        ({"stand_in": "busi"}, "needs --superlink"),
        ({"stand_in": "busi", "superlink": "s:1", "name": "../x"}, "cannot name a site"),
    ],
)
def test_a_site_that_cannot_be_found_is_an_error(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(FlamesError, match=words):
        find_site(None, **{"superlink": None, **arguments})


def test_a_site_with_a_folder_has_its_name_from_there(deployment):
    with pytest.raises(FlamesError, match=r"site\.toml has the name"):
        find_site(deployment.site("a").path, None, name="x")


@pytest.mark.parametrize(
    "name",
    ["my shard.h5", 'it\'s "here".h5', "données 日本.h5", "a=1 b=2.h5", "x.toml", "back\\slash.h5", "#.h5"],
)
def test_settings_of_the_owner_reach_the_client_unchanged(name, deployment, tmp_path):
    from flwr.common.config import parse_config_args

    typed = NodeSettings(
        (tmp_path / name, tmp_path / "b.h5"), device="cpu", precision="fp32", min_examples=7, per_case=True
    )
    site = replace(deployment.site("a"), peers={"b": "ed25519:" + "0f" * 32}, secure_only=True)
    settings = settings_for(site, typed)

    command = node_command(deployment.site("a"), settings, False, 5000)

    arrived: Mapping[str, Any] = parse_config_args([option(command, "--node-config")])
    assert settings_of(SimpleNamespace(node_config=arrived, run_config={})) == settings
    assert settings.shards[0] == tmp_path / name
    assert settings.private
    assert settings.client_state == site.client_state
    assert (settings.identity, settings.peers, settings.secure_only) == (site.identity, site.peers, True)


def test_every_setting_is_in_the_nodes_configuration():
    names = {field.replace("_", "-") for field in NodeSettings.__dataclass_fields__}

    assert set(node_config(NodeSettings((Path("x"),)))) == (names - {"shards"}) | {"shard"}


def test_a_node_has_its_key_and_the_servers_certificate(deployment):
    site = deployment.site("a")

    command = node_command(site, NodeSettings((Path("x"),)), False, 5000)

    assert option(command, "--root-certificates") == str(site.ca_certificate)
    assert option(command, "--auth-supernode-private-key") == str(site.private_key)
    assert (option(command, "--host"), option(command, "--port")) == ("127.0.0.1", "5000")
    assert "--insecure" not in command


def test_an_insecure_node_has_no_key(deployment):
    command = node_command(deployment.site("a"), NodeSettings((Path("x"),)), True, 5000)

    assert "--insecure" in command
    assert "--root-certificates" not in command
    assert "--auth-supernode-private-key" not in command


@pytest.fixture
def runs(monkeypatch) -> Callable[..., list[psutil.Process]]:
    """runs(code, …): the programs that replace Flower's node, one after another; their processes."""

    def run(*codes: str) -> list[psutil.Process]:
        started: list[psutil.Process] = []
        left = list(codes)
        monkeypatch.setattr(node, "node_command", lambda *_: [sys.executable, "-c", left.pop(0)])

        def start(*arguments: Any) -> Any:
            process = real(*arguments)
            started.append(psutil.Process(process.pid))
            return process

        real = node.start
        monkeypatch.setattr(node, "start", start)
        return started

    return run


class Pauses:
    """Pauses that are shorter than asked; they end the node once `until` was shown."""

    def __init__(self, until: str) -> None:
        self.shown: list[str] = []
        self.retries: list[float] = []
        self._until = until

    def __call__(self, seconds: float) -> None:
        import time

        if seconds >= 5:
            self.retries.append(seconds)
        if any(self._until in line for line in self.shown):
            raise KeyboardInterrupt
        time.sleep(0.02)


def settings(deployment: Any, shard: Path, **changes: Any) -> NodeSettings:
    return settings_for(deployment.site("a"), NodeSettings((shard,), **changes))


def test_a_node_runs_until_a_signal_ends_it(deployment, shard, runs):
    processes, pauses = runs(STAYS), Pauses("connected")

    join(deployment.site("a"), settings(deployment, shard), False, pauses.shown.append, pauses)

    made = (
        f"made this site's identity {identity_text(deployment.site('a').identity)}: compare it with the other"
    )
    assert pauses.shown == [
        f"{made} sites",
        f"connected to {deployment.superlink} (node 5)",
        "the node has ended",
    ]
    assert len(processes) == 1
    assert not processes[0].is_running()


def test_a_node_that_ends_by_itself_is_restarted_after_growing_waits(deployment, shard, runs):
    runs(FAILS, FAILS, FAILS, JOINS, FAILS, STAYS)
    site_identity(deployment.site("a"))
    pauses = Pauses("impossible")
    pauses_until = 5

    def pause(seconds: float) -> None:
        pauses(seconds)
        if len(pauses.retries) == pauses_until:
            raise KeyboardInterrupt

    join(deployment.site("a"), settings(deployment, shard), False, pauses.shown.append, pause)

    assert pauses.retries == [5, 10, 10, 5, 10]
    assert sum("does not know this site's key" in line for line in pauses.shown) == 4
    assert "restarts in 10 s" in pauses.shown[5]


def test_the_identity_of_the_first_start_stays(deployment, shard, runs):
    site = deployment.site("a")
    for _ in range(2):
        runs(STAYS)
        pauses = Pauses("connected")
        join(site, settings(deployment, shard), False, pauses.shown.append, pauses)
    assert stat.S_IMODE(site.identity.stat().st_mode) == 0o600
    assert pauses.shown[0].startswith("connected")


@pytest.mark.parametrize(("pins", "notes"), [((), 1), (("b=ed25519:" + "0" * 64,), 0)])
def test_a_node_that_requires_secure_sums_says_what_a_server_could_do_without_pins(
    pins, notes, deployment, shard, runs
):
    site = pin_peers(deployment.site("a"), pins)
    runs(STAYS)
    pauses = Pauses("connected")
    join(site, settings(deployment, shard, secure_only=True), False, pauses.shown.append, pauses)
    assert sum("a dishonest server could give this site keys" in line for line in pauses.shown) == notes


def test_a_shard_that_cannot_be_read_is_an_error_before_anything_starts(deployment, tmp_path, runs):
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    processes = runs(STAYS)

    for name in ("broken.h5", "missing.h5"):
        with pytest.raises(FlamesError, match=name):
            join(deployment.site("a"), settings(deployment, tmp_path / name), False, print)
    assert processes == []


def test_too_few_images_are_an_error_before_anything_starts(deployment, shard, runs):
    processes = runs(STAYS)

    with pytest.raises(FlamesError, match="100000 training images or more"):
        join(deployment.site("a"), settings(deployment, shard, min_examples=100_000), False, print)
    assert processes == []


def test_the_error_for_a_site_without_its_key_names_the_fix(deployment, shard):
    deployment.site("a").private_key.unlink()

    with pytest.raises(FlamesError, match=r"node\.key does not exist; `flames deploy check --site"):
        join(deployment.site("a"), settings(deployment, shard), False, print)


def renew(deployment, monkeypatch, backdated, days):
    """Make the deployment's certificates from `backdated` days ago to `days` from now."""
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=backdated))
    monkeypatch.setattr(certificates, "AUTHORITY_DAYS", days)
    certificates.make_authority(deployment.ca_certificate, deployment.ca_key, days)
    shutil.copy(deployment.ca_certificate, deployment.site("a").ca_certificate)


@pytest.mark.parametrize(
    ("backdated", "days", "says"),
    [
        (30, -1, r"ca\.crt expired on 20.* UTC, and this machine's clock says 20"),
        (-2, 9, "is valid only from"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_an_error_before_the_node_starts(
    backdated, days, says, deployment, shard, runs, monkeypatch
):
    renew(deployment, monkeypatch, backdated, days)
    processes = runs(STAYS)
    with pytest.raises(FlamesError, match=says):
        join(deployment.site("a"), settings(deployment, shard), False, print)
    assert processes == []


def test_a_certificate_that_expires_soon_is_shown_when_the_node_starts(deployment, shard, runs, monkeypatch):
    renew(deployment, monkeypatch, 1, 12)
    runs(STAYS)
    pauses = Pauses("connected")
    join(deployment.site("a"), settings(deployment, shard), False, pauses.shown.append, pauses)
    assert "ca.crt expires in 11 days" in pauses.shown[0]


def test_an_allowed_package_that_is_not_installed_is_a_note_and_the_node_starts(deployment, shard, runs):
    processes = runs(STAYS)
    pauses = Pauses("connected")
    site = replace(deployment.site("a"), plugins=("no-such-package==1.0",))
    join(site, settings(deployment, shard), False, pauses.shown.append, pauses)
    assert pauses.shown[0] == (
        "plug-in package no-such-package 1.0 is allowed, and is not installed here: a run that needs it "
        "rejects this site; run pip install no-such-package==1.0"
    )
    assert len(processes) == 1


def test_a_second_node_of_a_site_is_refused_by_the_number_of_the_first_and_its_log_is_untouched(
    deployment, shard, runs
):
    site, processes = deployment.site("a"), runs(STAYS, STAYS, STAYS)
    pauses, found = Pauses("connected"), []

    def pause(seconds: float) -> None:
        if any("connected" in line for line in pauses.shown) and not found:
            log = (site.path / "node.log").read_bytes()
            with pytest.raises(FlamesError) as caught:
                join(site, settings(deployment, shard), False, print)
            found.extend([str(caught.value), (site.path / "node.log").read_bytes() == log])
        pauses(seconds)

    join(site, settings(deployment, shard), False, pauses.shown.append, pause)
    assert f"another process runs this site's node (process {os.getpid()}), expected one" in found[0]
    assert found[1]
    assert len(processes) == 1

    again = Pauses("connected")
    join(site, settings(deployment, shard), False, again.shown.append, again)
    assert len(processes) == 2  # the lock ended with the first node; a stale file does not matter
