"""The key by which sites know each other."""

import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from flames_cli.errors import FlamesError
from flames_cli.store.deployment.identity import ensure_identity, identity_text, parse_identity, signer
from flames_cli.store.deployment.node_keys import make_node_keys


def test_an_identity_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "identity.key"
    assert ensure_identity(path)
    first = path.read_bytes()
    assert not ensure_identity(path)
    assert path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_it_signs_is_verified_with_the_text_that_sites_compare(tmp_path):
    for name in ("a", "b"):
        ensure_identity(tmp_path / name)
    assert identity_text(tmp_path / "a") != identity_text(tmp_path / "b")
    known = Ed25519PublicKey.from_public_bytes(parse_identity(identity_text(tmp_path / "a")))
    known.verify(signer(tmp_path / "a")(b"keys"), b"keys")
    for signature in (signer(tmp_path / "b")(b"keys"), signer(tmp_path / "a")(b"others")):
        with pytest.raises(InvalidSignature):
            known.verify(signature, b"keys")


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:" + "0" * 63, "0" * 64, "ed25519:" + "G" * 64])
def test_a_text_that_is_no_identity_is_rejected(text):
    with pytest.raises(FlamesError, match="is no identity of a site, expected ed25519: and 64 hex digits"):
        parse_identity(text)


@pytest.mark.parametrize("kind", ["damaged", "node.key"])
def test_a_file_with_another_key_is_rejected(kind, tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    (tmp_path / "damaged").write_text("damaged")
    for work in (identity_text, signer):
        with pytest.raises(FlamesError, match=r"is not a site's identity \(an Ed25519 key in PEM"):
            work(tmp_path / kind)
