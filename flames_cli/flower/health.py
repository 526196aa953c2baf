"""Connections to a SuperLink, and the check that it answers."""

import http.client
import ssl
import subprocess
import time
from pathlib import Path

from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError
from flames_cli.flower.processes import last_lines

POLL_SECONDS = 0.1

EXPIRED, NOT_YET = 10, 9
"""OpenSSL's verification codes (x509_vfy.h) for the dates of a certificate."""


def connect(address: str, root_certificates: Path | None, seconds: float) -> http.client.HTTPConnection:
    """Return a connection to `address` (HOST:PORT) with a timeout of `seconds`.

    It uses TLS and trusts only `root_certificates`; without them it is plain HTTP.

    Raises:
        FlamesError: the address is not HOST:PORT.
        OSError: the certificates cannot be read.
    """
    host, port = split_address(address)
    if root_certificates is None:
        return http.client.HTTPConnection(host, port, timeout=seconds)
    trust = ssl.create_default_context(cafile=str(root_certificates))
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=trust)


def date_fault(address: str, root_certificates: Path, seconds: float = 3.0) -> str:
    """Return in OpenSSL's words why the dates of the certificate at `address` are not valid now; empty if
    they are, or if no certificate can be read there."""
    try:
        connection = connect(address, root_certificates, seconds)
        try:
            connection.connect()
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message if error.verify_code in (EXPIRED, NOT_YET) else ""
    except (OSError, http.client.HTTPException):
        return ""
    return ""


def is_healthy(address: str, root_certificates: Path | None, seconds: float = 3.0) -> bool:
    """Return whether a SuperLink answers at `address`, over TLS if `root_certificates` are given."""
    try:
        connection = connect(address, root_certificates, seconds)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    address: str,
    root_certificates: Path | None,
    log: Path,
    seconds: float = 60.0,
) -> None:
    """Wait until the SuperLink that runs as `process` answers at `address` (HOST:PORT).

    Raises:
        FlamesError: it ended, or did not answer within `seconds`; the message contains the end of its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FlamesError(f"the SuperLink did not start: {last_lines(log)}; its log is {log}")
        if is_healthy(address, root_certificates):
            return
        time.sleep(POLL_SECONDS)
    raise FlamesError(f"the SuperLink did not answer at {address} within {seconds:.0f} s; its log is {log}")
