"""What a running server notices in its files."""

from datetime import timedelta

import pytest

from flames_cli.stages.deploy.init import renew_certificate
from flames_cli.stages.deploy.server_watch import Certificates, SecondNodes
from flames_cli.store.deployment import certificates

LINE = "ERROR : [/v1/fleet/activate-node] exception: SuperNode with node ID {} could not be activated.\n"


def test_a_renewed_certificate_is_noticed_once(deployment):
    watch = Certificates(deployment)
    assert list(watch.read_notes()) == []
    renew_certificate(deployment.path, 100)
    (note,) = watch.read_notes()
    assert "restart the server" in note
    assert list(watch.read_notes()) == []
    assert list(Certificates(deployment).read_notes()) == []


@pytest.mark.parametrize(
    ("days", "says"), [(12, "server.crt expires in 11 days"), (-1, "server.crt expired on")]
)
def test_a_certificate_whose_time_runs_out_while_the_server_runs_is_noticed_once_a_day(
    days, says, deployment, monkeypatch
):
    watch = Certificates(deployment)
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=30))
    monkeypatch.setattr("flames_cli.stages.deploy.init._check_days", lambda days: None)
    renew_certificate(deployment.path, days)
    watch._used = deployment.server_certificate.read_bytes()
    (note,) = watch.read_notes()
    assert says in note
    assert "`flames deploy renew`" in note
    assert list(watch.read_notes()) == []


def test_a_second_node_with_the_key_of_a_node_that_is_online_is_noticed_once(tmp_path):
    log = tmp_path / "superlink.log"
    assert SecondNodes(log).read() == []
    log.write_text(LINE.format(3))
    watch = SecondNodes(log)
    assert watch.read() == []
    with log.open("a") as file:
        file.write(LINE.format(7) + LINE.format(7) + LINE.format(8) + LINE.format(9).rstrip("\n"))
    assert watch.read() == [7, 8]
    with log.open("a") as file:
        file.write("\n" + LINE.format(7))
    assert watch.read() == [9]
