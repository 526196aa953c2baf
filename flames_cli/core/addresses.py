"""Network addresses: hosts, ports, and both written as HOST:PORT."""

import ipaddress
import re

from flames_cli.errors import FlamesError

HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
"""Letters, digits and hyphens between dots (RFC 1123, section 2.1)."""


_PORT = re.compile(r"[0-9]{1,5}")


def join_address(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT, both checked.

    Raises:
        FlamesError: `address` is not HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or bracketed != (":" in host) or not _PORT.fullmatch(port):
        raise FlamesError(
            f"'{address}' is not HOST:PORT, such as server.example.org:9092 (IPv6: [2001:db8::1]:9092)"
        )
    return check_host(host[1:-1] if bracketed else host), check_port(int(port))


def check_host(host: str) -> str:
    """Return `host` if it is a name or an IP address that other machines can connect to.

    An IPv6 address may be in brackets, as in HOST:PORT; they are left out.

    Raises:
        FlamesError: it is neither a host name nor an IP address, or it does not identify one machine.
    """
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name that ends in a number is an IP address with a mistake, never a host name (RFC 1123, section
        # 2.1).
        if HOST_NAME.fullmatch(host) and not host.rpartition(".")[2].isdigit():
            return host
        raise FlamesError(
            f"'{host}' is not a host; give a name such as server.example.org, or an IP address, "
            "without https:// and port"
        ) from None
    if address.is_unspecified or address.is_multicast or "%" in host:
        raise FlamesError(
            f"no machine can connect to {host}; give the name or address by which sites reach it"
        )
    return host


def check_port(port: int) -> int:
    """Return `port` if it is from 1 to 65535.

    Raises:
        FlamesError: it is another number.
    """
    if not 1 <= port <= 65535:
        raise FlamesError(f"there is no port {port}; give one from 1 to 65535")
    return port
