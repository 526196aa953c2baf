"""A site's identity, and the identities of other sites that its owner pins."""

import shutil

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.identity import check_identity, pin_peers, site_identity, unpin_peers
from flames_cli.stages.deploy.init import add_site
from flames_cli.stages.deploy.plugins import allow_at_site
from flames_cli.store.deployment.folders import read_site
from flames_cli.store.deployment.identity import identity_text

KEYS = {name: "ed25519:" + digits * 32 for name, digits in {"b": "0b", "c": "0c"}.items()}
TYPED = [f"{name}={key}" for name, key in KEYS.items()]


@pytest.fixture
def site(deployment, tmp_path):
    """The folder of site a as it is on the site's own machine."""
    return read_site(shutil.copytree(deployment.site("a").path, tmp_path / "at a" / "site"))


def whats(site, state):
    return [one.what for one in check_identity(site) if one.state == state]


def test_the_server_s_operator_makes_no_identity(deployment):
    add_site(deployment, "c")
    assert not list(deployment.path.rglob("identity*"))


def test_a_site_makes_its_identity_when_it_is_asked_for(site):
    text = site_identity(site)
    assert site_identity(site) == text == identity_text(site.identity)


def test_pins_are_added_replaced_and_removed_and_other_entries_stay(site):
    pinned = pin_peers(pin_peers(site, TYPED), [f"b={'ed25519:' + '0d' * 32}"])
    assert read_site(site.path) == pinned
    assert pinned.peers == {**KEYS, "b": "ed25519:" + "0d" * 32}
    assert allow_at_site(pinned, []).peers == pinned.peers
    assert unpin_peers(pinned, ["b"]).peers == {"c": KEYS["c"]}
    assert read_site(site.path).peers == {"c": KEYS["c"]}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("b", "is no CLIENT=IDENTITY, expected such as"),
        ("b=rsa:1", "is no identity of a site"),
        (f"a={KEYS['b']}", "a is this site itself, expected other sites"),
        (f"c={KEYS['b']}", "the clients b and c have the same identity"),
        (f"a b={KEYS['c']}", "'a b' cannot name a site"),
    ],
)
def test_a_pin_that_cannot_be_meant_changes_nothing(typed, says, site):
    before = pin_peers(site, TYPED[:1])
    with pytest.raises(FlamesError, match=says):
        pin_peers(before, [typed])
    assert read_site(site.path) == before


def test_only_a_pinned_site_is_unpinned(site):
    with pytest.raises(FlamesError, match="d is not pinned at this site, expected one of b, c; nothing was"):
        unpin_peers(pin_peers(site, TYPED), ["b", "d"])
    assert read_site(site.path).peers == KEYS


def test_a_check_shows_the_identity_and_the_pins(site):
    assert whats(site, "ok")[0] == "identity.key does not exist yet: the node makes it at its first start"
    text = site_identity(site)
    assert whats(pin_peers(site, TYPED), "ok") == [
        f"the identity of a is {text}",
        f"only its owner can read {site.identity}",
        "a secure sum has only these other sites: b, c (their identities are pinned)",
    ]


def test_a_check_finds_an_identity_that_others_can_read_or_that_is_damaged(site):
    site_identity(site)
    site.identity.chmod(0o640)
    (what,) = whats(site, "problem")
    assert "other users can read the private key" in what
    site.identity.write_text("damaged")
    assert "is not a site's identity" in whats(site, "problem")[0]


def test_a_check_finds_pins_with_which_no_sum_is_possible(site):
    (what,) = whats(pin_peers(site, TYPED[:1]), "problem")
    assert what == "the identity of b alone is pinned, and a secure sum has 3 clients or more"


def test_a_check_warns_of_a_site_that_requires_secure_sums_without_pins(site):
    site.description.write_text(site.description.read_text() + 'secure-aggregation = "required"\n')
    (what,) = whats(read_site(site.path), "warning")
    assert what.startswith("secure-aggregation is required, and no other site's identity is pinned: ")
    assert whats(pin_peers(read_site(site.path), TYPED), "warning") == []


def test_a_check_warns_of_an_identity_that_the_server_s_operator_can_read(deployment, site):
    assert whats(site, "warning") == []
    (what,) = whats(deployment.site("a"), "warning")
    assert "the server's operator can read identity.key" in what
