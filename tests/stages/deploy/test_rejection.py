"""Reasons why a server does not admit a node: a stub on loopback with the answers of a gate."""

import socket
from base64 import b64decode

import pytest

from flames_cli.stages.deploy import rejection
from flames_cli.stages.deploy.init import renew_certificate
from flames_cli.stages.deploy.rejection import explain_rejection
from flames_cli.store.deployment import certificates
from flames_cli.store.deployment.node_keys import public_key_pem


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("online", "a node of this site is connected already"),
        ("unknown", "the server does not know this site's key"),
        ("offline", ""),
    ],
)
def test_the_server_says_whether_another_node_uses_the_key(state, says, deployment, serve):
    serve({"x-flames-node-state": state})
    assert explain_rejection(deployment.site("a")).startswith(says)
    assert bool(explain_rejection(deployment.site("a"))) == bool(says)


@pytest.mark.parametrize(("ahead", "way"), [(7200, "behind"), (-90, "ahead of")])
def test_clocks_that_are_apart_are_the_reason_whatever_the_key(ahead, way, deployment, serve):
    serve({"x-flames-node-state": "online"}, ahead=ahead)
    text = explain_rejection(deployment.site("a"))
    assert f"s {way} the server's, so the server rejects the node; set the clocks" in text


@pytest.mark.parametrize(
    ("backdated", "days", "says"), [(30, -1, "has expired"), (-2, 9, "is not valid yet")]
)
def test_a_certificate_that_is_not_valid_is_named_with_its_dates(
    backdated,
    days,
    says,
    deployment,
    serve,
    monkeypatch,
):
    monkeypatch.setattr(certificates, "BACKDATED", certificates.timedelta(days=backdated))
    monkeypatch.setattr("flames_cli.stages.deploy.init._check_days", lambda days: None)
    renew_certificate(deployment.path, days)
    serve()
    text = explain_rejection(deployment.site("a"))
    assert f"the server's certificate {says}, by this machine's clock (it is valid from 20" in text
    assert " UTC, and this clock says 20" in text


def test_a_server_that_cannot_be_asked_gives_no_reason(deployment):
    assert explain_rejection(deployment.site("a"), 0.2) == ""
    with socket.create_server(("127.0.0.1", deployment.port)):
        assert explain_rejection(deployment.site("a"), 0.05) == ""


def test_the_question_names_the_sites_public_key_as_flower_stores_it(deployment, monkeypatch):
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes

    asked = []

    def answer(address, authority, seconds, headers):
        asked.append(headers["x-flames-node-key"])
        raise OSError

    monkeypatch.setattr(rejection, "request_health", answer)
    explain_rejection(deployment.site("a"))
    key = b64decode(asked[0])
    assert key == public_key_pem(deployment.site("a").private_key)
    assert public_key_to_bytes(bytes_to_public_key(key)) == key
