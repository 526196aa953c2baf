import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from flwr.cli.supernode.register import try_load_public_key
from flwr.supercore.primitives.asymmetric import bytes_to_public_key

from flames_cli.errors import FlamesError
from flames_cli.store.deployment.node_keys import (
    make_node_keys,
    public_key_of,
    read_public_key,
    write_public_key,
)


@pytest.fixture
def pair(tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    return tmp_path / "node.key", tmp_path / "node.pub"


def test_flower_takes_the_keys(pair):
    """Flower's own loaders accept the keys: that of `flwr supernode register`, and the SuperNode's for its
    private key."""
    public = bytes_to_public_key(try_load_public_key(pair[1]))
    private = serialization.load_ssh_private_key(pair[0].read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == public
    assert public.curve.name == "secp384r1"


def test_the_private_key_is_its_owner_s_alone(pair):
    assert stat.S_IMODE(pair[0].stat().st_mode) == 0o600
    assert b"PRIVATE" not in pair[1].read_bytes()


def test_a_pair_belongs_together_and_to_no_other(pair, tmp_path):
    assert public_key_of(pair[0]) == read_public_key(pair[1])
    make_node_keys(tmp_path / "b" / "node.key", tmp_path / "b" / "node.pub")
    assert public_key_of(pair[0]) != read_public_key(tmp_path / "b" / "node.pub")


def test_a_comment_does_not_make_another_key(pair, tmp_path):
    commented = tmp_path / "commented.pub"
    commented.write_bytes(pair[1].read_bytes().strip() + b" somebody@somewhere\n")
    assert read_public_key(commented) == read_public_key(pair[1])
    write_public_key(commented, read_public_key(commented))
    assert commented.read_bytes() == pair[1].read_bytes()


@pytest.mark.parametrize("there", ["node.key", "node.pub"])
def test_a_key_is_never_written_over(there, tmp_path):
    (tmp_path / there).write_text("mine")
    with pytest.raises(FlamesError, match=f"{there} exists already and is not overwritten"):
        make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_private_key_is_not_accepted_as_a_public_one(pair):
    with pytest.raises(FlamesError, match=r"is a private key, which never leaves its site") as error:
        read_public_key(pair[0])
    assert "BEGIN" not in str(error.value)


SSH, PLAIN = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
OTHERS = {
    "nothing": b"",
    "words": b"ssh-rsa nonsense",
    "ed25519": ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(SSH, PLAIN),
    "P-256": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(SSH, PLAIN),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_keys_of_another_kind_are_rejected(kind, tmp_path):
    path = tmp_path / "node.pub"
    path.write_bytes(OTHERS[kind])
    with pytest.raises(FlamesError, match=r"is not a node's public key .*; make a pair with"):
        read_public_key(path)
    with pytest.raises(FlamesError, match=r"is not a node's private key .*; make a pair with"):
        public_key_of(path)
