"""Certificates as Python's own TLS judges them, which a node's connection does too."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.deployment.certificates import (
    describe_certificate,
    is_signed_by,
    key_matches,
    make_authority,
    make_server_certificate,
)

HOSTS = ["server.example.org", "10.1.2.3", "2001:db8::1"]


@pytest.fixture
def made(tmp_path):
    """made("a", "server.example.org"): the folder of an authority and a server's certificate."""

    def make(name, host="server.example.org", days=825):
        folder = tmp_path / name
        make_authority(folder / "ca.crt", folder / "ca.key", days)
        certify(folder, host, days)
        return folder

    return make


def certify(folder, host, days):
    files = [folder / name for name in ("ca.crt", "ca.key", "server.crt", "server.key")]
    make_server_certificate(*files, host, days)


def handshake(folder, host, authority=None):
    """Between two ends in memory; raises as a client would."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(folder / "server.crt", folder / "server.key")
    here = ssl.create_default_context(cafile=(authority or folder) / "ca.crt")
    here.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [there.wrap_bio(up, down, server_side=True), here.wrap_bio(down, up, server_hostname=host)]
    for _ in range(4):
        for end in ends[::-1]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1].version()


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_with_the_authority_accepts_the_server_by_every_name(host, made):
    folder = made("a", host)
    for name in (host, "localhost", "127.0.0.1", "::1"):
        assert handshake(folder, name) == "TLSv1.3"


def test_a_client_refuses_another_host(made):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(made("a"), "other.example.org")


def test_a_client_refuses_what_another_authority_signed(made):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made("a"), "localhost", authority=made("b"))


def test_private_keys_are_their_owner_s_alone_whatever_the_mask(made):
    before = os.umask(0)
    try:
        folder = made("a")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("ca.key", "server.key")] == [0o600] * 2


@pytest.mark.parametrize(("days", "authority_days"), [(825, 3650), (5000, 5000)])
def test_certificates_hold_as_long_as_they_say(days, authority_days, made):
    folder, now = made("a", days=days), datetime.now(UTC)
    for name, expected in (("server.crt", days), ("ca.crt", authority_days)):
        said = describe_certificate(folder / name)
        assert timedelta(minutes=50) < now - said.not_before < timedelta(minutes=70)
        assert abs(said.not_after - now - timedelta(days=expected)) < timedelta(minutes=1)


def test_a_certificate_tells_the_names_that_it_covers(made):
    said = describe_certificate(made("a", "Server.example.org") / "server.crt")
    assert said.names == ("server.example.org", "localhost", "127.0.0.1", "::1")
    assert said.covers("SERVER.example.ORG")
    assert said.covers("0:0:0:0:0:0:0:1")
    assert not said.covers("example.org")
    assert describe_certificate(made("b") / "ca.crt").names == ()


def test_it_is_told_who_signed_and_whose_key_it_is(made):
    a, b = made("a"), made("b")
    assert is_signed_by(a / "server.crt", a / "ca.crt")
    assert not is_signed_by(a / "server.crt", b / "ca.crt")
    assert key_matches(a / "server.key", a / "server.crt")
    assert not key_matches(b / "server.key", a / "server.crt")


def test_a_new_certificate_of_the_same_authority_is_accepted(made):
    folder = made("a")
    before = (folder / "server.key").read_bytes()
    certify(folder, "new.example.org", 10)
    assert handshake(folder, "new.example.org") == "TLSv1.3"
    assert (folder / "server.key").read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
def test_files_that_are_none_are_refused_by_name(content, made):
    folder = made("a")
    for name, read in (("server.crt", describe_certificate), ("server.key", None)):
        (folder / name).write_bytes(content)
        with pytest.raises(FlamesError, match=rf"{name} is not a"):
            read(folder / name) if read else key_matches(folder / name, folder / "ca.crt")


def test_a_missing_file_is_told_by_name(tmp_path):
    with pytest.raises(FlamesError, match=r"ca\.crt cannot be read: No such file"):
        describe_certificate(tmp_path / "ca.crt")
