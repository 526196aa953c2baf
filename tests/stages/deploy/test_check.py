"""Checks of a deployment: each problem is made, and must be found with its fix."""

import re
import shutil
from datetime import timedelta

import h5py
import numpy as np
import pytest

from flames_cli.stages.deploy import check_machine
from flames_cli.stages.deploy.check import check_node, check_server
from flames_cli.stages.deploy.findings import passed
from flames_cli.stages.deploy.init import add_site, init_deployment, make_key
from flames_cli.store.cases import SetInfo
from flames_cli.store.deployment import certificates
from flames_cli.store.deployment.folders import read_deployment
from flames_cli.store.h5 import Selection, write_shard
from tests.support.datasets import write_noise

MEMBERS = {"client_train": [("a", "a", 3)], "client_test": [("b", "b", 1)], "server_test": [("c", "c", 1)]}


@pytest.fixture
def shard(tmp_path):
    source = tmp_path / "busi.h5"
    write_noise(source, MEMBERS, SetInfo("busi", "US", "breast", 6, 255))
    rows = {"train": [0, 1], "val": [2], "test": []}
    sets = {name: Selection(source, {"client_train": chosen}) for name, chosen in rows.items()}
    write_shard(tmp_path / "hospital a.h5", "a", "US", sets)
    return tmp_path / "hospital a.h5"


def finding_of(findings, says, state="problem"):
    """Return the one finding of this state with these words."""
    known = [one for one in findings if one.state == state and re.search(says, one.what)]
    assert len(known) == 1, findings
    return known[0]


def at_server(deployment):
    return check_server(read_deployment(deployment.path))


def at_site(deployment, **options):
    return check_node(deployment.site("a"), **options)


def test_a_new_deployment_passes(deployment):
    findings = at_server(deployment)
    assert passed(findings)
    # Warnings are possible: this machine may have little free space.
    assert {one.state for one in findings} <= {"ok", "warning"}
    assert all(one.fix for one in findings if one.state != "ok")


DATES = {
    # from and to when, in days from now
    "expired": (-30, -1, "problem", r"server\.crt expired on", "`flames deploy renew`"),
    "not yet": (2, 9, "problem", r"server\.crt is valid only from", "set the clock"),
    "soon": (-1, 12, "warning", r"server\.crt expires in 11 days", "`flames deploy renew`"),
}


@pytest.mark.parametrize("what", DATES)
def test_the_certificate_s_dates_are_checked(what, deployment, monkeypatch):
    begins, ends, state, says, fix = DATES[what]
    monkeypatch.setattr(certificates, "BACKDATED", -timedelta(days=begins))
    files = (deployment.ca_certificate, deployment.ca_key, deployment.server_certificate)
    certificates.make_server_certificate(*files, deployment.server_key, deployment.host, ends)
    assert fix in finding_of(at_server(deployment), says, state).fix


def test_an_expired_authority_is_found_on_both_sides(tmp_path, monkeypatch):
    made = init_deployment(tmp_path / "made", "localhost", 1, ["a"], 1)
    monkeypatch.setattr(certificates, "AUTHORITY_DAYS", -2)
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=30))
    certificates.make_authority(made.ca_certificate, made.ca_key, -2)
    shutil.copy(made.ca_certificate, made.site("a").ca_certificate)
    for findings in (at_server(made), at_site(made)):
        assert "`flames deploy init`" in finding_of(findings, r"ca\.crt expired on").fix


def test_a_certificate_for_another_host_is_found(deployment):
    text = deployment.description.read_text().replace("localhost", "other.org")
    deployment.description.write_text(text)
    finding = finding_of(at_server(deployment), r"server\.crt names localhost, .* and not other\.org")
    assert "`flames deploy renew`" in finding.fix


def test_a_key_that_others_can_read_is_found_with_the_command_that_fixes_it(deployment):
    for path in (deployment.server_key, deployment.ca_key, deployment.site("b").private_key):
        path.chmod(0o644)
        finding = finding_of(at_server(deployment), r"other users can read the private key .* \(mode 0644\)")
        assert finding.fix == f"chmod 600 {path}"
        path.chmod(0o600)
    assert passed(at_server(deployment))


def test_a_key_of_another_certificate_is_found(deployment):
    shutil.copy(deployment.ca_key, deployment.server_key)
    finding_of(at_server(deployment), r"server\.key does not belong to server\.crt")


def test_a_certificate_of_another_authority_is_found(deployment, tmp_path):
    other = init_deployment(tmp_path / "other", "localhost", 1, ["a"], 825)
    shutil.copy(other.ca_certificate, deployment.ca_certificate)
    finding_of(at_server(deployment), r"server\.crt is not signed by ca\.crt")


def test_a_damaged_certificate_skips_the_checks_of_its_content(deployment):
    deployment.server_certificate.write_text("damaged")
    findings = at_server(deployment)
    finding_of(findings, r"server\.crt is not a certificate")
    finding_of(findings, "dates, names, signature and key were not checked: it cannot be read", "skipped")


def test_a_missing_authority_is_found_once(deployment):
    deployment.ca_certificate.unlink()
    findings = at_server(deployment)
    finding_of(findings, r"ca\.crt cannot be read: No such file")
    finding_of(findings, r"the signature of server\.crt was not checked", "skipped")


def test_the_key_of_the_authority_may_be_on_another_machine(deployment):
    deployment.ca_key.unlink()
    findings = at_server(deployment)
    assert passed(findings)
    finding_of(findings, r"ca\.key is not on this machine", "ok")


def test_the_sites_public_keys_are_checked(deployment):
    deployment.node_key("a").unlink()
    assert (
        finding_of(at_server(deployment), r"site a: .*a\.pub cannot be read").fix
        == "copy the site's node.pub there"
    )
    shutil.copy(deployment.node_key("b"), deployment.node_key("a"))
    finding_of(at_server(deployment), "sites a and b have the same key")


def test_a_site_without_a_server_has_that_problem_only(deployment, shard):
    findings = at_site(deployment, shards=[shard])
    finding = finding_of(findings, f"port {deployment.port} of localhost was not reached: Connection refused")
    assert "`flames deploy server`" in finding.fix
    assert [one.what for one in findings if one.state == "skipped"] == [
        f"{what} not checked: the server was not reached"
        for what in ("the server's certificate was", "the releases of FLAMES were", "the clocks were")
    ]
    assert sum(one.state == "problem" for one in findings) == 1
    finding_of(findings, r"hospital a\.h5: US, breast, 6×6, images: 2 train, 1 val, 0 test$", "ok")
    finding_of(findings, "trains on ", "ok")


def test_columns_of_patients_in_a_shard_are_named(deployment, shard):
    with h5py.File(shard, "r+") as file:
        file["train"]["extra"] = np.array([b'{"sex": "F", "age_group": "40-49"}'] * 2)
    findings = at_site(deployment, shards=[shard])
    finding_of(findings, r"0 test; kept columns: age_group, sex$", "ok")


def test_another_address_may_be_checked(deployment):
    finding_of(at_site(deployment, superlink="127.0.0.1:1"), r"port 1 of 127\.0\.0\.1 was not reached")


def test_a_shard_that_cannot_be_used_is_found(deployment, shard, tmp_path):
    findings = at_site(deployment, shards=[tmp_path / "gone.h5"])
    assert "`flames partition`" in finding_of(findings, r"gone\.h5 does not exist").fix
    shard.write_bytes(shard.read_bytes()[:-500])
    finding_of(at_site(deployment, shards=[shard]), r"hospital a\.h5 is damaged")
    shutil.copy(tmp_path / "busi.h5", shard)
    finding_of(at_site(deployment, shards=[shard]), "is flames-preprocessed, expected flames-shard")


def test_a_shard_without_training_images_is_found(deployment, shard, tmp_path):
    sets = {name: Selection(tmp_path / "busi.h5", {"client_train": []}) for name in ("train", "val", "test")}
    write_shard(shard, "a", "US", sets)
    finding_of(at_site(deployment, shards=[shard]), "0 train, 0 val, 0 test; no training images")


def test_a_node_s_key_is_checked(deployment, tmp_path):
    site = deployment.site("a")
    site.private_key.chmod(0o640)
    assert finding_of(at_site(deployment), "other users can read").fix == f"chmod 600 {site.private_key}"
    shutil.copy(deployment.site("b").private_key, site.private_key)
    site.private_key.chmod(0o600)
    finding_of(at_site(deployment), r"node\.key does not belong to node\.pub")
    site.private_key.write_text("damaged")
    finding_of(at_site(deployment), "is not a node's private key")
    site.private_key.unlink()
    finding_of(at_site(deployment), r"node\.key does not exist")


def test_a_site_with_a_key_of_its_own_has_no_problem(deployment, tmp_path):
    private, public = make_key("c", tmp_path / "at c")
    site = add_site(deployment, "c", public)
    shutil.copy(private, site.private_key)
    finding_of(check_node(site), r"node\.key belongs to node\.pub", "ok")


def test_little_room_is_warned_of(deployment, monkeypatch):
    monkeypatch.setattr(check_machine, "DISK", 10**18)
    monkeypatch.setattr(check_machine, "MEMORY", 10**18)
    findings = at_server(deployment)
    finding_of(findings, "only .* GB of disk are free for .*, at least 1000000000 GB are advised", "warning")
    finding_of(findings, "only .* GB of memory are free, ", "warning")
    assert passed(findings)


@pytest.mark.parametrize("version", ["1.40.2", "1.4.1", "2.0.0"])
def test_another_release_of_flower_is_found(version, deployment, monkeypatch):
    monkeypatch.setattr(check_machine.metadata, "version", lambda name: version)
    says = f"flwr {re.escape(version)} is installed, expected 1.41 or 1.42"
    assert finding_of(at_server(deployment), says).fix == "pip install 'flwr==1.42.*'"
