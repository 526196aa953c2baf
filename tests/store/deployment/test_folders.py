import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.deployment.folders import (
    Deployment,
    Site,
    check_site_name,
    read_deployment,
    read_site,
    write_deployment,
    write_site,
)

NAMES = ["a", "hospital-a", "Hospital_2.b", "9", "-", "a" * 63]


def test_a_deployment_is_read_back(tmp_path):
    made = Deployment(tmp_path, "server.example.org", 9092, ("hospital-a", "b"))
    write_deployment(made)
    assert read_deployment(tmp_path) == made
    assert made.superlink == "server.example.org:9092"
    assert "plugins" not in made.description.read_text()
    assert made.site("b") == Site(tmp_path / "sites" / "b", "b", "server.example.org:9092")


def test_a_site_is_read_back(tmp_path):
    made = Site(tmp_path, "hospital-a", "[2001:db8::1]:9092")
    write_site(made)
    assert read_site(tmp_path) == made


def test_the_packages_that_runs_may_use_are_read_back(tmp_path):
    pins = ("flames-example==0.1.0", "b==2")
    made = Deployment(tmp_path / "d", "a.org", 1, ("x",), pins)
    made.path.mkdir()
    write_deployment(made)
    assert read_deployment(made.path) == made
    site = Site(tmp_path, "x", "a.org:1", pins)
    write_site(site)
    assert read_site(tmp_path) == site
    assert made.site("x").plugins == pins


ONE, TWO = ("ed25519:" + digits * 32 for digits in ("0a", "0b"))


def test_the_pinned_identities_and_the_demand_for_secure_sums_are_read_back(tmp_path):
    made = Site(tmp_path, "x", "a.org:1", ("b==2",), {"hospital-b": ONE, "c.d": TWO}, secure_only=True)
    write_site(made)
    assert read_site(tmp_path) == made
    assert 'secure-aggregation = "required"' in made.description.read_text()
    by_hand = f'name = "x"\nsuperlink = "a.org:1"\nsecure-aggregation = "allowed"\npeers = {{b = "{ONE}"}}\n'
    made.description.write_text(SITE_HEAD + by_hand)
    assert read_site(tmp_path) == Site(tmp_path, "x", "a.org:1", peers={"b": ONE})


def test_every_file_is_where_the_layout_says(tmp_path):
    made = Deployment(tmp_path, "a.org", 1, ())
    paths = [made.ca_certificate, made.ca_key, made.server_certificate, made.server_key, made.flower_home]
    paths += [made.database, made.log, made.nodes, made.node_key("x")]
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "ca.crt", "ca.key", "server/server.crt", "server/server.key", "server/flower",
        "server/superlink.db", "server/superlink.log", "server/nodes.json", "server/keys/x.pub",
    ]  # fmt: skip
    site = Site(tmp_path, "x", "a.org:1")
    paths = [site.ca_certificate, site.private_key, site.public_key, site.flower_home, site.client_state]
    assert [path.name for path in paths] == ["ca.crt", "node.key", "node.pub", "flower", "memory"]
    assert site.identity == tmp_path / "identity.key"


def test_a_folder_without_a_deployment_names_the_command(tmp_path):
    with pytest.raises(
        MissingArtifact, match=r"no deployment\.toml in .*; make it with `flames deploy init`"
    ):
        read_deployment(tmp_path)
    with pytest.raises(MissingArtifact, match=r"no site\.toml in .*; name with --site the folder"):
        read_site(tmp_path)


HEAD = 'format = "flames-deployment"\nversion = 1\n'
SITE_HEAD = 'format = "flames-site"\nversion = 1\n'

DAMAGED = {
    "no TOML": ("host =", "cannot be read"),
    "another format": ('format = "flames-run"', "is flames-run, expected flames-deployment"),
    "newer": (HEAD.replace("1", "2"), "has version 2 of flames-deployment, this release reads 1"),
    "no host": (HEAD + "port = 1\nsites = []", "has no host, port or sites"),
    "port of words": (
        HEAD + 'host = "a.org"\nport = "x"\nsites = []',
        "the port 'x', expected a text and a n",
    ),
    "port of true": (
        HEAD + 'host = "a.org"\nport = true\nsites = []',
        "the port True, expected a text and a",
    ),
    "host of true": (
        HEAD + "host = true\nport = 1\nsites = []",
        "has the host True and the port 1, expected",
    ),
    "no list": (HEAD + 'host = "a.org"\nport = 1\nsites = 3', "has the sites 3, expected a list of names"),
    "one text": (HEAD + 'host = "a.org"\nport = 1\nsites = "ab"', "has the sites 'ab', expected a list of"),
    "site of true": (HEAD + 'host = "a.org"\nport = 1\nsites = [true]', "expected a list of names"),
    "UTF-16": ("\0h\0o", "cannot be read (it contains zero bytes, so it is UTF-16"),
    "no such host": (HEAD + 'host = "a b"\nport = 1\nsites = []', "'a b' is not a host"),
    "no such port": (HEAD + 'host = "a.org"\nport = 0\nsites = []', "there is no port 0"),
    "no version": (
        HEAD + 'host = "a.org"\nport = 1\nsites = []\nplugins = ["a"]',
        "has the plugins .*, expected a list such as",
    ),
    "site elsewhere": (HEAD + 'host = "a.org"\nport = 1\nsites = ["../a"]', "'../a' cannot name a site"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_deployment_is_rejected(what, tmp_path):
    content, says = DAMAGED[what]
    (tmp_path / "deployment.toml").write_text(content)
    with pytest.raises(FlamesError, match=says.replace("(", r"\(")):
        read_deployment(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no name or superlink"),
        ('name = true\nsuperlink = "a.org:1"', "has no name or superlink"),
        ('name = ".."\nsuperlink = "a.org:1"', "cannot name a site"),
        (
            'name = "a"\nsuperlink = "a.org:1"\nplugins = "a==1"',
            "has the plugins 'a==1', expected",
        ),
        ('name = "a"\nsuperlink = "a.org:1"\nplugins = [1]', "has the plugins .*, expected a list such as"),
        ('name = "a"\nsuperlink = "a.org"', "'a.org' is not HOST:PORT"),
        ('name = "a"\nsuperlink = "a.org:1"\npeers = ["b"]', "has the peers .*, expected a table such as"),
        ('name = "a"\nsuperlink = "a.org:1"\npeers = {b = 1}', "has the peers .*, expected a table such as"),
        ('name = "a"\nsuperlink = "a.org:1"\npeers = {b = "ed25519:0"}', "'ed25519:0' is no identity"),
        (f'name = "a"\nsuperlink = "a.org:1"\npeers = {{"b c" = "{ONE}"}}', "'b c' cannot name a site"),
        (f'name = "a"\nsuperlink = "a.org:1"\npeers = {{b = "{ONE}", c = "{ONE}"}}', "b and c have the same"),
        ('name = "a"\nsuperlink = "a.org:1"\nsecure-aggregation = true', "True, expected 'required' or"),
    ],
)
def test_a_damaged_site_is_rejected(content, says, tmp_path):
    (tmp_path / "site.toml").write_text(SITE_HEAD + content)
    with pytest.raises(FlamesError, match=says):
        read_site(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_can_be_files_are_kept(name):
    assert check_site_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\\b", "a b", "é", "a" * 64, "a\n", "a:b"])
def test_names_that_cannot_be_files_are_rejected(name):
    with pytest.raises(FlamesError, match="cannot name a site; use letters, digits"):
        check_site_name(name)


def test_files_that_were_edited_on_windows_are_read(tmp_path):
    head = "\ufeff" + HEAD + 'host = "a.org"\nport = 1\nsites = ["a"]\n'
    (tmp_path / "deployment.toml").write_bytes(head.replace("\n", "\r\n").encode())
    assert read_deployment(tmp_path).sites == ("a",)
    site = "\ufeff" + SITE_HEAD + 'name = "a"\nsuperlink = "a.org:1"\n'
    (tmp_path / "site.toml").write_bytes(site.replace("\n", "\r\n").encode())
    assert read_site(tmp_path).name == "a"
