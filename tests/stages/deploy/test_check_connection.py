"""Checks of a node's connection to its server: a stub on loopback with right or wrong answers."""

import socket
from email.utils import formatdate

import pytest

from flames_cli import __version__
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.processes import uses_socks
from flames_cli.stages.deploy.check_connection import Answer, check_clock, check_connection, check_port
from flames_cli.stages.deploy.findings import passed
from flames_cli.stages.deploy.init import init_deployment, renew_certificate
from flames_cli.store.deployment import certificates
from tests.stages.deploy.conftest import OURS

WELL = [
    "was reached",
    "the server has a certificate for",
    f"both run FLAMES {__version__}",
    "the clocks agree",
]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Remove the proxy settings of the machine that runs the tests."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def at_site(deployment, host="127.0.0.1", **options):
    return list(check_connection(f"{host}:{deployment.port}", deployment.site("a").ca_certificate, **options))


def only_problem(findings):
    (found,) = [one for one in findings if one.state == "problem"]
    assert found.fix
    return found.what


def skips(findings):
    return [one.what.split(" were ")[0] for one in findings if one.state == "skipped"]


def test_a_server_as_it_should_be_passes(deployment, serve):
    serve()
    findings = at_site(deployment)
    assert [one.state for one in findings] == ["ok"] * 4
    for finding, says in zip(findings, WELL, strict=True):
        assert says in finding.what


CLOCKS = {
    # how far the server's clock is ahead of this one, in seconds
    -3600: ("problem", "this clock is 3600 s ahead of the server's, so the server rejects the node"),
    -4: ("warning", "s ahead of the server's; the server rejects more than 5 s ahead or 300 s behind"),
    120: ("warning", "s behind the server's; the server rejects more"),
    3600: ("problem", "this clock is 3600 s behind the server's, so the server rejects the node"),
}


@pytest.mark.parametrize("ahead", CLOCKS)
def test_a_clock_that_goes_wrong_is_a_problem(ahead, deployment, serve):
    state, says = CLOCKS[ahead]
    serve(ahead=ahead)
    found = at_site(deployment)[-1]
    assert found.state == state
    assert says in found.what
    assert "timedatectl" in found.fix


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(-310, "problem"), (-290, "warning"), (-50, "ok"), (2, "ok"), (4, "warning"), (6, "problem")],
)
def test_flowers_limits_are_observed(seconds, state):
    """Flower rejects signatures that were made more than 5 s later or 300 s earlier than its own clock."""
    server_time = 1_800_000_000
    answer = Answer(200, {"date": formatdate(server_time, usegmt=True)}, server_time + 0.5 + seconds)
    assert check_clock(answer).state == state


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}])
def test_a_server_without_a_time_is_not_judged(headers):
    assert check_clock(Answer(200, headers, 0.0)).state == "skipped"


def test_another_protocol_is_a_problem_and_another_release_a_warning(deployment, serve):
    serve({"x-flames-version": "9.0.0", "x-flames-protocol": "99"})
    says = f"this machine has FLAMES {__version__} (protocol {PROTOCOL}), the server 9.0.0 (99)"
    assert only_problem(at_site(deployment)) == says


def test_another_release_of_the_same_protocol_is_warned_of(deployment, serve):
    serve({**OURS, "x-flames-version": "9.0.0"})
    findings = at_site(deployment)
    assert passed(findings)
    assert [one.state for one in findings] == ["ok", "ok", "warning", "ok"]


def test_a_server_that_is_not_flames_is_a_problem(deployment, serve):
    serve({})
    assert only_problem(at_site(deployment)) == "the program that answers is not a FLAMES server (status 200)"


def test_a_server_without_tls_is_a_problem(deployment, serve):
    serve(tls=False)
    findings = at_site(deployment)
    assert "does not use TLS" in only_problem(findings)
    assert skips(findings) == ["the releases of FLAMES", "the clocks"]


def test_a_server_of_another_authority_is_a_problem(deployment, serve, tmp_path):
    serve()
    other = init_deployment(tmp_path / "other", "localhost", 1, ["a"], 825)
    findings = list(check_connection(f"localhost:{deployment.port}", other.ca_certificate))
    assert only_problem(findings).endswith("did not sign the server's certificate: it may be another server")
    assert skips(findings) == ["the releases of FLAMES", "the clocks"]


def test_a_server_under_another_name_is_a_problem(deployment, serve, monkeypatch):
    serve()
    real = socket.getaddrinfo
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *args: real("127.0.0.1", *args))
    assert only_problem(at_site(deployment, "other.org")) == "the server's certificate is for another host"


@pytest.mark.parametrize(
    ("backdated", "days", "says"),
    [(30, -1, "has expired, by this machine's clock"), (-2, 9, "is not valid yet, by this machine's clock")],
)
def test_a_server_whose_certificate_does_not_hold_is_a_problem(
    backdated, days, says, deployment, serve, monkeypatch
):
    monkeypatch.setattr(certificates, "BACKDATED", certificates.timedelta(days=backdated))
    monkeypatch.setattr("flames_cli.stages.deploy.init._check_days", lambda days: None)
    renew_certificate(deployment.path, days)
    serve()
    assert says in only_problem(at_site(deployment))


def test_a_server_that_does_not_answer_is_a_problem(deployment):
    with socket.create_server(("127.0.0.1", deployment.port)):
        assert "did not answer over TLS: timed out" in only_problem(at_site(deployment, seconds=0.2))


def test_a_silent_firewall_is_a_problem(deployment, monkeypatch):
    def drop(*args, **kwargs):
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", drop)
    findings = at_site(deployment)
    assert f"did not answer at port {deployment.port} within 10 s" in only_problem(findings)
    assert len(skips(findings)) == 3


def test_an_unknown_name_is_a_problem(deployment, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.create_connection", unknown)
    found = only_problem(at_site(deployment, "nowhere.example"))
    assert found == "the name nowhere.example is unknown on this machine"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("damaged")])
def test_without_the_authority_the_server_is_not_judged(damage, deployment, serve):
    serve()
    damage(deployment.site("a").ca_certificate)
    findings = at_site(deployment)
    assert [one.state for one in findings] == ["ok", "skipped", "skipped", "skipped"]


def test_a_proxy_is_warned_of_without_its_password(deployment, serve, monkeypatch):
    serve()
    monkeypatch.setenv("https_proxy", "http://user:password@proxy:3128")
    findings = at_site(deployment)
    assert findings[0].state == "warning"
    assert "127.0.0.1 to NO_PROXY" in findings[0].fix
    assert "password" not in str(findings)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert [one.state for one in at_site(deployment)] == ["ok"] * 4


def test_a_socks_proxy_that_is_not_used_is_warned_of(deployment, serve, monkeypatch):
    serve()
    monkeypatch.setenv("all_proxy", "socks5://user:password@proxy:1080")
    finding = at_site(deployment)[0]
    assert (finding.state, "pip install socksio" in finding.fix) == ("warning", not uses_socks())
    assert "password" not in str(finding)


def test_a_free_port_and_one_with_our_own_server_are_well(deployment, serve):
    assert check_port(deployment.port, deployment.ca_certificate).what == f"port {deployment.port} is free"
    serve()
    found = check_port(deployment.port, deployment.ca_certificate)
    assert found.state == "ok"
    assert found.what.endswith("is in use by this deployment's own server")


@pytest.mark.parametrize("options", [{"tls": False}, {"headers": {}}])
def test_a_port_that_another_program_has_is_a_problem(options, deployment, serve):
    serve(**options)
    found = check_port(deployment.port, deployment.ca_certificate)
    assert (found.state, found.what) == ("problem", f"port {deployment.port} is in use by another program")


def test_a_port_that_only_root_may_use_is_a_problem(deployment, monkeypatch):
    def forbid(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.create_server", forbid)
    assert check_port(443, deployment.ca_certificate).what == "this user may not use port 443"
