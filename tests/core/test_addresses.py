import pytest

from flames_cli.core.addresses import check_host, check_port, join_address, split_address
from flames_cli.errors import FlamesError

GOOD = {
    "server.example.org:9092": ("server.example.org", 9092),
    "10.1.2.3:1": ("10.1.2.3", 1),
    "[2001:db8::1]:65535": ("2001:db8::1", 65535),
    "localhost:9092": ("localhost", 9092),
}


@pytest.mark.parametrize("address", GOOD)
def test_an_address_is_taken_apart_and_put_together(address):
    assert split_address(address) == GOOD[address]
    assert join_address(*GOOD[address]) == address


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":9092", "host:x", "host:²", "2001:db8::1:9092", "[host]:9092", "a b:1"]
)
def test_an_invalid_address_is_rejected(address):
    with pytest.raises(FlamesError):
        split_address(address)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_rejected(port):
    with pytest.raises(FlamesError, match=f"there is no port {port}; give one from 1 to 65535"):
        check_port(port)


@pytest.mark.parametrize(
    "host",
    ["", "https://a.org", "a.org/b", "a_b.org", "-a.org", "a..org", "1.2.3", "300.1.1.1", "é.org", "a" * 64,
     "a\n", "*.a.org", "a.org."],
)  # fmt: skip
def test_an_invalid_host_is_rejected(host):
    with pytest.raises(FlamesError, match="is not a host; give a name such as"):
        check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0"])
def test_a_host_that_is_not_one_machine_is_rejected(host):
    with pytest.raises(FlamesError, match="no machine can connect to"):
        check_host(host)


@pytest.mark.parametrize(
    ("typed", "host"), [("[2001:db8::1]", "2001:db8::1"), ("[::1]", "::1"), ("::1", "::1")]
)
def test_brackets_around_an_ipv6_address_are_no_mistake(typed, host):
    assert check_host(typed) == host


@pytest.mark.parametrize("host", ["[a.org]", "[10.0.0.1]", "[::1", "::1]", "[]"])
def test_brackets_around_anything_else_are_a_mistake(host):
    with pytest.raises(FlamesError, match="is not a host"):
        check_host(host)
