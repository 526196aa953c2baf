"""Checks of the connection from a node to its server: port, certificate, release and clock."""

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from flames_cli import __version__
from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError
from flames_cli.flower.health import EXPIRED, NOT_YET, connect
from flames_cli.flower.processes import uses_socks
from flames_cli.stages.deploy.findings import Finding, ok, problem, skipped, warning
from flames_cli.store.deployment.certificates import describe_certificate, describe_pem
from flames_cli.store.files.atomic import reason_of

SECONDS = 10.0
"""Longest time to wait for an answer."""

AHEAD, BEHIND = 5.0, 300.0
"""Seconds by which a node's clock may differ: Flower rejects signatures from later or longer ago."""
WARN_AHEAD, WARN_BEHIND = 2.5, 60.0
"""Seconds from which there is a warning."""

LATER = ("the server's certificate was", "the releases of FLAMES were", "the clocks were")
"""Checks that need a connection to the server."""

MINUTE = "%Y-%m-%d %H:%M"

OTHER_NAME = (62, 64)
"""OpenSSL's verification codes (x509_vfy.h) for another host name or IP address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's response, with header names in lower case, and this machine's clock (s) at that time."""

    status: int
    headers: Mapping[str, str]
    clock: float


def check_connection(address: str, authority: Path, seconds: float = SECONDS) -> Iterator[Finding]:
    """Check the connection to the server at `address` (HOST:PORT), whose certificate `authority` signed."""
    host, port = split_address(address)
    yield from _proxy(host)
    reached = _reach(host, port, seconds)
    yield reached
    if reached.state != "ok":
        yield from (skipped(what, "the server was not reached") for what in LATER)
        return
    answer = _ask(address, authority, seconds)
    if not isinstance(answer, Answer):
        yield answer
        yield from (skipped(what, "the server was not identified") for what in LATER[1:])
        return
    yield ok(f"the server has a certificate for {host} that {authority.name} signed")
    yield check_release(answer)
    yield check_clock(answer)


def check_port(port: int, authority: Path) -> Finding:
    """Check that `port` of this machine is free, or in use by this deployment's own server."""
    try:
        with socket.create_server(("", port)):
            return ok(f"port {port} is free")
    except PermissionError:
        return problem(f"this user may not use port {port}", "choose a port above 1023 (deployment.toml)")
    except OSError:
        answer = _ask(f"localhost:{port}", authority, SECONDS)
    if isinstance(answer, Answer) and _is_ours(answer):
        return ok(f"port {port} is in use by this deployment's own server")
    return problem(
        f"port {port} is in use by another program", f"end it (`ss -ltnp 'sport = :{port}'` shows its name)"
    )


def _proxy(host: str) -> Iterator[Finding]:
    """Warn of a proxy in the environment: Flower's connections use it, unlike those of this check."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return
    if proxy.lower().startswith("socks") and not uses_socks():
        yield warning(
            "the node's connections do not go through the SOCKS proxy of the environment (HTTPS_PROXY or "
            "ALL_PROXY)",
            f"if {host} can be reached only through it: pip install socksio; else add {host} to NO_PROXY",
        )
    else:
        yield warning(
            "the node's connections would go through a proxy (HTTPS_PROXY), which this check does not use",
            f"add {host} to NO_PROXY, unless it can be reached only through the proxy",
        )


def _reach(host: str, port: int, seconds: float) -> Finding:
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return ok(f"port {port} of {host} was reached")
    except socket.gaierror:
        return problem(
            f"the name {host} is unknown on this machine", "check it, or add it to DNS or /etc/hosts"
        )
    except TimeoutError:
        return problem(
            f"{host} did not answer at port {port} within {seconds:.0f} s",
            f"open TCP port {port} in the firewalls: outgoing at this site, incoming at the server",
        )
    except OSError as error:
        return problem(
            f"port {port} of {host} was not reached: {reason_of(error)}",
            "start the server with `flames deploy server`, and check the port and the firewalls",
        )


def _ask(address: str, authority: Path, seconds: float) -> Answer | Finding:
    """Return the response to a request that needs no key, or the reason why there is none."""
    try:
        describe_certificate(authority)
    except FlamesError:
        return skipped("the server's certificate was", f"{authority.name} cannot be read")
    try:
        return request_health(address, authority, seconds)
    except ssl.SSLCertVerificationError as error:
        return untrusted(error.verify_code, address, authority, seconds)
    except ssl.SSLError as error:
        return problem(
            f"the program that listens at {address} does not use TLS ({error.reason or 'no reason given'})",
            "start the server without --insecure, and check the port",
        )
    except (OSError, http.client.HTTPException) as error:
        return problem(
            f"{address} did not answer over TLS: {_reason(error)}", "check that the server runs, and its port"
        )


def request_health(
    address: str, authority: Path, seconds: float, headers: Mapping[str, str] | None = None
) -> Answer:
    """Return the server's response to a request that needs no key.

    Raises:
        OSError, http.client.HTTPException: there is none; `ssl.SSLCertVerificationError` if the server's
            certificate is not valid.
    """
    connection = connect(address, authority, seconds)
    try:
        before = time.time()
        connection.request("GET", "/health", headers=dict(headers or {}))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, (before + time.time()) / 2)
    finally:
        connection.close()


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):  # its text is a line of Python's own source
        return "timed out"
    return reason_of(error) if isinstance(error, OSError) else type(error).__name__


def untrusted(code: int, address: str, authority: Path, seconds: float = SECONDS) -> Finding:
    """Return the reason why the certificate of the server at `address` was rejected, by OpenSSL's code."""
    if code == EXPIRED:
        return problem(
            f"the server's certificate has expired, by this machine's clock{_dates(address, seconds)}",
            "set the clock, or run `flames deploy renew` at the server and restart it",
        )
    if code == NOT_YET:
        return problem(
            f"the server's certificate is not valid yet, by this machine's clock{_dates(address, seconds)}",
            "set the clock (`timedatectl set-ntp true`)",
        )
    if code in OTHER_NAME:
        return problem(
            "the server's certificate is for another host",
            "connect to the name or address that was given to `flames deploy init` with --host",
        )
    return problem(
        f"{authority} did not sign the server's certificate: it may be another server",
        "copy this site's folder from the server again, and check the address",
    )


def _dates(address: str, seconds: float) -> str:
    """Return the dates of the server's certificate and this machine's time; empty if it cannot be read."""
    try:
        info = describe_pem(ssl.get_server_certificate(split_address(address), timeout=seconds))
    except (OSError, ValueError):
        return ""
    return (
        f" (it is valid from {info.not_before:{MINUTE}} to {info.not_after:{MINUTE}} UTC, and this clock "
        f"says {datetime.now(UTC):{MINUTE}} UTC)"
    )


def _is_ours(answer: Answer) -> bool:
    from flames_cli.flower.gate import VERSION_HEADER  # loads Flower

    return VERSION_HEADER in answer.headers


def check_release(answer: Answer) -> Finding:
    """Check that both machines run releases of FLAMES with the same protocol."""
    from flames_cli.fed.messages import PROTOCOL
    from flames_cli.flower.gate import PROTOCOL_HEADER, VERSION_HEADER  # loads Flower

    version, protocol = answer.headers.get(VERSION_HEADER), answer.headers.get(PROTOCOL_HEADER)
    if version is None or protocol is None:
        return problem(
            f"the program that answers is not a FLAMES server (status {answer.status})",
            "start the server with `flames deploy server`, and check the port",
        )
    here = f"this machine has FLAMES {__version__} (protocol {PROTOCOL}), the server {version} ({protocol})"
    if protocol != str(PROTOCOL):
        return problem(here, "install the same release on both")
    if version != __version__:
        return warning(here, "install the same release on both soon")
    return ok(f"both run FLAMES {__version__}")


def check_clock(answer: Answer) -> Finding:
    """Check that Flower accepts this machine's signatures, by the header `Date` (rounded down to seconds)."""
    try:
        server_time = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return skipped("the clocks were", "the server sent no time")
    ahead = answer.clock - (server_time + 0.5)
    fix = "set the clocks of both (`timedatectl set-ntp true`)"
    what = f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if ahead > AHEAD or ahead < -BEHIND:
        return problem(f"{what}, so the server rejects the node", fix)
    if ahead > WARN_AHEAD or ahead < -WARN_BEHIND:
        return warning(
            f"{what}; the server rejects more than {AHEAD:.0f} s ahead or {BEHIND:.0f} s behind", fix
        )
    return ok("the clocks agree")
