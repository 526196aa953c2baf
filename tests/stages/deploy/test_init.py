import os
import stat
from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.deploy import init
from flames_cli.stages.deploy.init import (
    add_site,
    init_deployment,
    make_key,
    remove_site,
    renew_certificate,
)
from flames_cli.store.deployment.certificates import describe_certificate, is_signed_by, key_matches
from flames_cli.store.deployment.folders import read_deployment, read_site
from flames_cli.store.deployment.node_keys import public_key_of, read_public_key

HOST = "server.example.org"
WELL = {"host": HOST, "port": 9092, "sites": ["a"], "days": 825}


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_deployment_has_all_files_of_server_and_sites(tmp_path):
    made = init_deployment(tmp_path / "made", HOST, 9092, ["a", "b"], 825)
    assert read_deployment(tmp_path / "made") == made
    of_site = ["ca.crt", "node.key", "node.pub", "site.toml"]
    assert files_in(made.path) == sorted([
        "ca.crt", "ca.key", "deployment.toml", "server/server.crt", "server/server.key",
        "server/keys/a.pub", "server/keys/b.pub",
        *(f"sites/{name}/{file}" for name in "ab" for file in of_site),
    ])  # fmt: skip
    assert is_signed_by(made.server_certificate, made.ca_certificate)
    assert key_matches(made.server_key, made.server_certificate)
    assert describe_certificate(made.server_certificate).covers(HOST)
    keys = set()
    for name in "ab":
        site = read_site(made.path / "sites" / name)
        assert site == made.site(name)
        assert site.ca_certificate.read_bytes() == made.ca_certificate.read_bytes()
        assert public_key_of(site.private_key) == read_public_key(made.node_key(name))
        keys.add(read_public_key(site.public_key))
    assert len(keys) == 2


def test_only_the_owner_can_read_private_keys_and_the_folder_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        made = init_deployment(tmp_path / "made", **WELL)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.path.rglob("*.key")}
    assert modes == {"ca.key": 0o600, "server.key": 0o600, "node.key": 0o600}
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700


WRONG = {
    "host": ({"host": "https://a.org"}, "is not a host"),
    "every address": ({"host": "0.0.0.0"}, "no machine can connect to"),
    "port": ({"port": 0}, "there is no port 0"),
    "no site": ({"sites": []}, "no site was given"),
    "site": ({"sites": ["a", "../b"]}, "'../b' cannot name a site"),
    "site twice": ({"sites": ["a", "b", "a"]}, "there is a site 'a' already"),
    "one file on some systems": ({"sites": ["Lyon", "lyon"]}, "there is a site 'lyon' already"),
    "no days": ({"days": 0}, "cannot be valid for 0 days"),
    "too many days": ({"days": 10**9}, "cannot be valid for 1000000000 days"),
}


@pytest.mark.parametrize("what", WRONG)
def test_invalid_values_are_an_error_and_leave_nothing(what, tmp_path):
    changed, says = WRONG[what]
    with pytest.raises(FlamesError, match=says):
        init_deployment(tmp_path / "made", **{**WELL, **changed})
    assert list(tmp_path.iterdir()) == []


def test_a_deployment_is_never_overwritten(deployment):
    before = {path: path.read_bytes() for path in deployment.path.rglob("*") if path.is_file()}
    with pytest.raises(FlamesError, match="is a deployment already and is not overwritten; add sites with"):
        init_deployment(deployment.path, **WELL)
    assert before == {path: path.read_bytes() for path in deployment.path.rglob("*") if path.is_file()}


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    for there in (tmp_path, tmp_path / "file"):
        with pytest.raises(FlamesError, match="exists already and is not overwritten; choose another --out"):
            init_deployment(there, **WELL)
    assert files_in(tmp_path) == ["file"]


def test_an_empty_folder_is_filled(tmp_path):
    made = init_deployment(tmp_path, **WELL)
    assert made.description.is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_no_incomplete_folder(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(init, "write_deployment", fail)
    with pytest.raises((FlamesError, KeyboardInterrupt)):
        init_deployment(tmp_path / "new" / "made", **WELL)
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


def test_a_site_is_added(deployment):
    made = add_site(deployment, "c")
    assert read_deployment(deployment.path).sites == ("a", "b", "c")
    assert read_site(made.path) == made
    assert public_key_of(made.private_key) == read_public_key(deployment.node_key("c"))
    assert stat.S_IMODE(made.private_key.stat().st_mode) == 0o600


def test_a_site_with_a_key_of_its_own_keeps_its_private_key(deployment, tmp_path):
    private, public = make_key("c", tmp_path / "at c")
    made = add_site(deployment, "c", public)
    assert files_in(made.path) == ["ca.crt", "node.pub", "site.toml"]
    assert read_public_key(deployment.node_key("c")) == public_key_of(private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_an_invalid_site_changes_nothing(deployment, tmp_path):
    before = files_in(deployment.path)
    taken = deployment.node_key("a")
    for name, key, says in [
        ("a", None, "there is a site 'a' already"),
        ("B", None, "there is a site 'B' already"),
        ("c/d", None, "cannot name a site"),
        ("c", taken, "this is the key of site a; each site makes its own"),
        ("c", tmp_path / "gone", "gone cannot be read"),
        ("c", deployment.site("b").private_key, "is a private key, which never leaves its site"),
    ]:
        with pytest.raises(FlamesError, match=says):
            add_site(deployment, name, key)
    assert files_in(deployment.path) == before
    assert read_deployment(deployment.path) == deployment


def test_an_existing_folder_of_a_site_is_not_overwritten(deployment):
    there = deployment.site("c").path / "node.key"
    there.parent.mkdir()
    there.write_text("mine")
    with pytest.raises(FlamesError, match="exists already and is not overwritten; move it away"):
        add_site(deployment, "c")
    assert there.read_text() == "mine"


def test_a_site_is_removed_and_its_folder_stays(deployment):
    left = remove_site(deployment, "a")
    assert "a" not in left.sites
    assert read_deployment(deployment.path) == left
    assert not deployment.node_key("a").exists()
    assert deployment.site("a").private_key.exists()
    with pytest.raises(FlamesError, match="there is no site 'a', expected one of"):
        remove_site(left, "a")


def test_a_key_needs_a_name_that_a_site_can_have(tmp_path):
    with pytest.raises(FlamesError, match="cannot name a site"):
        make_key("a b", tmp_path)
    make_key("a", tmp_path)
    with pytest.raises(FlamesError, match=r"node\.key is there already and is kept"):
        make_key("a", tmp_path)


def test_a_renewed_certificate_has_a_new_key_and_the_same_authority(deployment):
    before = {path: path.read_bytes() for path in deployment.path.rglob("*") if path.is_file()}
    assert renew_certificate(deployment.path, 10) == deployment
    after = {path: path.read_bytes() for path in deployment.path.rglob("*") if path.is_file()}
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {deployment.server_certificate, deployment.server_key}
    assert is_signed_by(deployment.server_certificate, deployment.ca_certificate)
    assert key_matches(deployment.server_key, deployment.server_certificate)


def test_a_certificate_is_renewed_for_the_host_of_the_deployment(deployment):
    init.write_deployment(replace(deployment, host="new.example.org"))
    renew_certificate(deployment.path, 10)
    assert describe_certificate(deployment.server_certificate).covers("new.example.org")


def test_without_the_key_of_the_authority_nothing_is_renewed(deployment):
    before = deployment.server_key.read_bytes()
    deployment.ca_key.unlink()
    with pytest.raises(FlamesError, match=r"ca\.key cannot be read: No such file"):
        renew_certificate(deployment.path, 10)
    assert deployment.server_key.read_bytes() == before
