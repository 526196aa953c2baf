"""Whether a node reaches its server, knows it, and agrees with it on the time and the release."""

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from flames_cli import __version__
from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError
from flames_cli.flower.health import connect
from flames_cli.stages.deploy.findings import Finding, ok, problem, skipped, warning
from flames_cli.store.deployment.certificates import describe_certificate
from flames_cli.store.files.atomic import reason_of

SECONDS = 10.0
"""To wait for an answer."""

AHEAD, BEHIND = 5.0, 300.0
"""Seconds by which a node's clock may differ: Flower refuses what is signed later, or longer ago."""
WARN_AHEAD, WARN_BEHIND = 2.5, 60.0

LATER = ("the server's certificate was", "the releases of FLAMES were", "the clocks were")
"""What comes after reaching the server."""

EXPIRED, NOT_YET = 10, 9
OTHER_NAME = (62, 64)
"""What OpenSSL's verification answers (x509_vfy.h): dates; the host name or the IP address is another."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, its header names in lower case, and this machine's clock (s) when it did."""

    status: int
    headers: Mapping[str, str]
    clock: float


def check_connection(address: str, authority: Path) -> Iterator[Finding]:
    """Reach the server at `address` (HOST:PORT), know it by `authority`'s certificate, and compare."""
    host, port = split_address(address)
    yield from _proxy(host)
    reached = _reach(host, port)
    yield reached
    if reached.state != "ok":
        yield from (skipped(what, "the server was not reached") for what in LATER)
        return
    answer = _ask(address, authority)
    if not isinstance(answer, Answer):
        yield answer
        yield from (skipped(what, "the server is not known") for what in LATER[1:])
        return
    yield ok(f"the server shows a certificate for {host} that {authority.name} signed")
    yield check_release(answer)
    yield check_clock(answer)


def check_port(port: int, authority: Path) -> Finding:
    """Whether a server could listen at `port` of this machine; one of ours that does is as well."""
    try:
        with socket.create_server(("", port)):
            return ok(f"port {port} is free")
    except PermissionError:
        return problem(f"port {port} may not be used by this user", "choose one above 1023 (deployment.toml)")
    except OSError:
        answer = _ask(f"localhost:{port}", authority)
    if isinstance(answer, Answer) and _is_ours(answer):
        return ok(f"port {port} is in use by this deployment's own server")
    return problem(
        f"port {port} is in use by another program", f"end it (`ss -ltnp 'sport = :{port}'` names it)"
    )


def _proxy(host: str) -> Iterator[Finding]:
    """Flower's connections, unlike these, go through a proxy where the environment names one."""
    if urllib.request.getproxies().keys() & {"https", "all"} and not urllib.request.proxy_bypass(host):
        yield warning(
            "the node's connections would go through a proxy (HTTPS_PROXY), which this check does not use",
            f"add {host} to NO_PROXY, unless the proxy is the way to it",
        )


def _reach(host: str, port: int) -> Finding:
    try:
        with socket.create_connection((host, port), timeout=SECONDS):
            return ok(f"port {port} of {host} is reached")
    except socket.gaierror:
        return problem(f"the name {host} is unknown here", "check it, or enter it in DNS or /etc/hosts")
    except TimeoutError:
        return problem(
            f"{host} gave no answer at port {port} in {SECONDS:.0f} s",
            f"open TCP port {port} in the firewalls: out of this site and into the server",
        )
    except OSError as error:
        return problem(
            f"port {port} of {host} was not reached: {reason_of(error)}",
            "start the server there (`flames deploy server`), and check the port and the firewalls",
        )


def _ask(address: str, authority: Path) -> Answer | Finding:
    """The answer to a request that anybody may make; or why there is none."""
    try:
        describe_certificate(authority)
    except FlamesError:
        return skipped("the server's certificate was", f"{authority.name} cannot be read")
    try:
        connection = connect(address, authority, SECONDS)
        try:
            before = time.time()
            connection.request("GET", "/health")
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, (before + time.time()) / 2)
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        return _unknown(error.verify_code, authority)
    except ssl.SSLError as error:
        return problem(
            f"what listens at {address} does not speak TLS ({error.reason or 'no reason given'})",
            "start the server without --insecure, and check the port",
        )
    except (OSError, http.client.HTTPException) as error:
        return problem(
            f"{address} gave no answer over TLS: {_reason(error)}", "check that the server runs, and its port"
        )


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):  # its text names a line of Python's own source
        return "timed out"
    return reason_of(error) if isinstance(error, OSError) else type(error).__name__


def _unknown(code: int, authority: Path) -> Finding:
    """Why a certificate was refused."""
    if code == EXPIRED:
        return problem(
            "the server's certificate has expired, by this machine's clock",
            "set the clock, or run `flames deploy renew` at the server and start it anew",
        )
    if code == NOT_YET:
        return problem(
            "the server's certificate does not hold yet, by this machine's clock",
            "set the clock (`timedatectl set-ntp true`)",
        )
    if code in OTHER_NAME:
        return problem(
            "the server's certificate is for another host",
            "connect by the name or address that `flames deploy init` was given with --host",
        )
    return problem(
        f"{authority} did not sign the server's certificate: it may be another server",
        "copy this site's folder from the server again, and check the address",
    )


def _is_ours(answer: Answer) -> bool:
    from flames_cli.flower.gate import VERSION_HEADER  # loads Flower

    return VERSION_HEADER in answer.headers


def check_release(answer: Answer) -> Finding:
    """Whether both machines run releases of FLAMES that understand each other."""
    from flames_cli.fed.messages import PROTOCOL
    from flames_cli.flower.gate import PROTOCOL_HEADER, VERSION_HEADER  # loads Flower

    version, protocol = answer.headers.get(VERSION_HEADER), answer.headers.get(PROTOCOL_HEADER)
    if version is None or protocol is None:
        return problem(
            f"the server does not say that it is FLAMES (status {answer.status})",
            "start it with `flames deploy server`, and check the port",
        )
    here = f"this machine has FLAMES {__version__} (protocol {PROTOCOL}), the server {version} ({protocol})"
    if protocol != str(PROTOCOL):
        return problem(here, "install the same release on both")
    if version != __version__:
        return warning(here, "install the same release on both when there is time")
    return ok(f"both run FLAMES {__version__}")


def check_clock(answer: Answer) -> Finding:
    """Whether Flower takes what this machine signs: its header `Date` tells whole seconds, cut off."""
    try:
        told = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return skipped("the clocks were", "the server told no time")
    ahead = answer.clock - (told + 0.5)
    fix = "set the clocks of both (`timedatectl set-ntp true`)"
    what = f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if ahead > AHEAD or ahead < -BEHIND:
        return problem(f"{what}, and the server refuses the node", fix)
    if ahead > WARN_AHEAD or ahead < -WARN_BEHIND:
        return warning(f"{what}; refused are more than {AHEAD:.0f} s ahead or {BEHIND:.0f} s behind", fix)
    return ok("the clocks agree")
