"""Each thing that can be wrong is made wrong, and has to be told with its fix; well is well."""

import re
import shutil
import tomllib
from datetime import timedelta
from pathlib import Path

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

ROOT = Path(__file__).parents[3]

MEMBERS = {"client_train": [("a", "a", 3)], "client_test": [("b", "b", 1)], "server_test": [("c", "c", 1)]}


@pytest.fixture
def shard(tmp_path):
    source = tmp_path / "busi.h5"
    write_noise(source, MEMBERS, SetInfo("busi", "US", "breast", 6, 255))
    rows = {"train": [0, 1], "val": [2], "test": []}
    sets = {name: Selection(source, {"client_train": chosen}) for name, chosen in rows.items()}
    write_shard(tmp_path / "hospital a.h5", "a", "US", sets)
    return tmp_path / "hospital a.h5"


def told(findings, says, state="problem"):
    """The one finding of this state that says so."""
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
    assert {one.state for one in findings} <= {"ok", "warning"}  # warned of: this machine's room
    assert all(one.fix for one in findings if one.state != "ok")


DATES = {
    # from and to when, in days from now
    "expired": (-30, -1, "problem", r"server\.crt expired on", "`flames deploy renew`"),
    "not yet": (2, 9, "problem", r"server\.crt holds only from", "set the clock"),
    "soon": (-1, 12, "warning", r"server\.crt expires in 11 days", "`flames deploy renew`"),
}


@pytest.mark.parametrize("what", DATES)
def test_the_certificate_s_dates_are_told(what, deployment, monkeypatch):
    begins, ends, state, says, fix = DATES[what]
    monkeypatch.setattr(certificates, "BACKDATED", -timedelta(days=begins))
    files = (deployment.ca_certificate, deployment.ca_key, deployment.server_certificate)
    certificates.make_server_certificate(*files, deployment.server_key, deployment.host, ends)
    assert fix in told(at_server(deployment), says, state).fix


def test_an_expired_authority_is_told_on_both_sides(tmp_path, monkeypatch):
    made = init_deployment(tmp_path / "made", "localhost", 1, ["a"], 1)
    monkeypatch.setattr(certificates, "AUTHORITY_DAYS", -2)
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=30))
    certificates.make_authority(made.ca_certificate, made.ca_key, -2)
    shutil.copy(made.ca_certificate, made.site("a").ca_certificate)
    for findings in (at_server(made), at_site(made)):
        assert "`flames deploy init`" in told(findings, r"ca\.crt expired on").fix


def test_a_certificate_for_another_host_is_told(deployment):
    text = deployment.description.read_text().replace("localhost", "other.org")
    deployment.description.write_text(text)
    finding = told(at_server(deployment), r"server\.crt names localhost, .* and not other\.org")
    assert "`flames deploy renew`" in finding.fix


def test_a_key_that_others_may_read_is_told_with_the_command_that_mends_it(deployment):
    for path in (deployment.server_key, deployment.ca_key, deployment.site("b").private_key):
        path.chmod(0o644)
        finding = told(at_server(deployment), r"others may use the private key .* \(mode 0644\)")
        assert finding.fix == f"chmod 600 {path}"
        path.chmod(0o600)
    assert passed(at_server(deployment))


def test_a_key_of_another_certificate_is_told(deployment):
    shutil.copy(deployment.ca_key, deployment.server_key)
    told(at_server(deployment), r"server\.key does not belong to server\.crt")


def test_a_certificate_of_another_authority_is_told(deployment, tmp_path):
    other = init_deployment(tmp_path / "other", "localhost", 1, ["a"], 825)
    shutil.copy(other.ca_certificate, deployment.ca_certificate)
    told(at_server(deployment), r"server\.crt is not signed by ca\.crt")


def test_a_damaged_certificate_skips_what_it_would_tell(deployment):
    deployment.server_certificate.write_text("damaged")
    findings = at_server(deployment)
    told(findings, r"server\.crt is not a certificate")
    told(findings, "dates, names, signature and key were not checked: it cannot be read", "skipped")


def test_a_missing_authority_is_told_once(deployment):
    deployment.ca_certificate.unlink()
    findings = at_server(deployment)
    told(findings, r"ca\.crt cannot be read: No such file")
    told(findings, r"who signed server\.crt was not checked", "skipped")


def test_an_authority_s_key_may_be_kept_elsewhere(deployment):
    deployment.ca_key.unlink()
    findings = at_server(deployment)
    assert passed(findings)
    told(findings, r"ca\.key is kept elsewhere", "ok")


def test_the_sites_public_keys_are_checked(deployment):
    deployment.node_key("a").unlink()
    assert (
        told(at_server(deployment), r"site a: .*a\.pub cannot be read").fix
        == "copy the site's node.pub there"
    )
    shutil.copy(deployment.node_key("b"), deployment.node_key("a"))
    told(at_server(deployment), "sites a and b have the same key")


def test_a_site_without_a_server_tells_that_alone(deployment, shard):
    findings = at_site(deployment, shards=[shard])
    finding = told(findings, f"port {deployment.port} of localhost was not reached: Connection refused")
    assert "`flames deploy server`" in finding.fix
    assert [one.what for one in findings if one.state == "skipped"] == [
        f"{what} not checked: the server was not reached"
        for what in ("the server's certificate was", "the releases of FLAMES were", "the clocks were")
    ]
    assert sum(one.state == "problem" for one in findings) == 1
    told(findings, r"hospital a\.h5: US, breast, 6×6, images: 2 train, 1 val, 0 test", "ok")
    told(findings, "trains on ", "ok")


def test_another_address_may_be_checked(deployment):
    told(at_site(deployment, superlink="127.0.0.1:1"), r"port 1 of 127\.0\.0\.1 was not reached")


def test_a_shard_that_cannot_be_used_is_told(deployment, shard, tmp_path):
    findings = at_site(deployment, shards=[tmp_path / "gone.h5"])
    assert "`flames partition`" in told(findings, r"gone\.h5 is not there").fix
    shard.write_bytes(shard.read_bytes()[:-500])
    told(at_site(deployment, shards=[shard]), r"hospital a\.h5 is damaged")
    shutil.copy(tmp_path / "busi.h5", shard)
    told(at_site(deployment, shards=[shard]), "is flames-preprocessed, expected flames-shard")


def test_a_shard_without_training_images_is_told(deployment, shard, tmp_path):
    sets = {name: Selection(tmp_path / "busi.h5", {"client_train": []}) for name in ("train", "val", "test")}
    write_shard(shard, "a", "US", sets)
    told(at_site(deployment, shards=[shard]), "0 train, 0 val, 0 test; none to train on")


def test_a_node_s_key_is_checked(deployment, tmp_path):
    site = deployment.site("a")
    site.private_key.chmod(0o640)
    assert told(at_site(deployment), "others may use").fix == f"chmod 600 {site.private_key}"
    shutil.copy(deployment.site("b").private_key, site.private_key)
    site.private_key.chmod(0o600)
    told(at_site(deployment), r"node\.key does not belong to node\.pub")
    site.private_key.write_text("damaged")
    told(at_site(deployment), "is not a node's private key")
    site.private_key.unlink()
    told(at_site(deployment), r"node\.key is not there")


def test_a_site_that_has_put_its_own_key_is_well(deployment, tmp_path):
    private, public = make_key("c", tmp_path / "at c")
    site = add_site(deployment, "c", public)
    shutil.copy(private, site.private_key)
    told(check_node(site), r"node\.key belongs to node\.pub", "ok")


def test_little_room_is_warned_of(deployment, monkeypatch):
    monkeypatch.setattr(check_machine, "DISK", 10**18)
    monkeypatch.setattr(check_machine, "MEMORY", 10**18)
    findings = at_server(deployment)
    told(findings, "only .* GB of disk are free for .*, 1000000000 GB are advised", "warning")
    told(findings, "only .* GB of memory are free, ", "warning")
    assert passed(findings)


@pytest.mark.parametrize("version", ["1.40.2", "1.4.1", "2.0.0"])
def test_another_release_of_flower_is_told(version, deployment, monkeypatch):
    monkeypatch.setattr(check_machine.metadata, "version", lambda name: version)
    says = f"flwr {re.escape(version)} is installed, expected 1.41"
    assert told(at_server(deployment), says).fix == "pip install 'flwr==1.41.*'"


def test_the_release_of_flower_is_the_one_that_is_required():
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"flwr>={check_machine.FLOWER},<1.42" in requirements
