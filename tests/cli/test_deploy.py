"""`flames deploy init`, `add`, `key`, `renew` and `check`, as people type them."""

import json

import pytest

from flames_cli.flower.processes import free_port
from tests.support.plugins import make_package

SITES = ("--site", "hospital-a", "--site", "hospital-b")
INIT = ("deploy", "init", "--host", "localhost", *SITES)


def made(result):
    assert result.exit_code == 0, result.output
    assert "PRIVATE KEY" not in result.output
    return result.stdout


@pytest.fixture
def deployed(flames, tmp_path):
    """./flames-deployment, with a port where nothing listens."""
    made(flames(*INIT, "--port", free_port()))
    return tmp_path / "flames-deployment"


def test_making_a_deployment_shows_which_files_go_where_and_the_next_steps(flames, tmp_path):
    said = made(flames(*INIT))
    for name in ("hospital-a", "hospital-b"):
        assert f"→ flames-deployment/sites/{name}  goes to {name}\n" in said
        assert (tmp_path / "flames-deployment" / "sites" / name / "node.key").is_file()
    assert "open TCP port 9092" in said
    assert said.endswith("`flames deploy check`\nand `flames deploy server`\n")


def test_a_deployment_elsewhere_is_named_in_the_next_command(flames):
    said = made(flames(*INIT, "--out", "our study"))
    assert "`flames deploy check --deployment 'our study'`" in said
    assert made(flames("deploy", "check", "--deployment", "our study", "--json"))


def test_a_deployment_is_reported_as_json_without_any_key(flames):
    told = json.loads(made(flames(*INIT, "--json")))
    assert told == {
        "deployment": "flames-deployment",
        "superlink": "localhost:9092",
        "sites": [
            {"name": name, "folder": f"flames-deployment/sites/{name}"}
            for name in ("hospital-a", "hospital-b")
        ],
        "plugins": [],
    }


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """An installed package with a model."""
    make_package(tmp_path.parent / "site", "parts", {"models": {"net-of-parts": "parts:net"}}, version="1.0")
    monkeypatch.syspath_prepend(tmp_path.parent / "site")


def test_packages_are_allowed_when_a_deployment_is_made_or_later(flames, parts, tmp_path):
    said = made(flames(*INIT, "--allow", "parts"))
    assert said.count("  its owner installs the plug-ins: pip install parts==1.0\n") == 2
    told = json.loads(made(flames("deploy", "allow", "--remove", "parts", "--json")))
    assert told == {"folder": "flames-deployment", "plugins": []}
    said = made(flames("deploy", "allow", "parts==1.0"))
    assert "→ flames-deployment/deployment.toml  plug-in packages that are allowed: parts 1.0\n" in said
    assert said.endswith("  pip install parts==1.0\n  flames deploy allow parts==1.0 --site FOLDER\n")
    assert "pip install parts==1.0" in made(flames("deploy", "add", "hospital-c"))
    said = made(
        flames("deploy", "allow", "--remove", "parts", "--site", "flames-deployment/sites/hospital-a")
    )
    assert "site.toml  plug-in packages that are allowed: none\nrestart the node" in said
    said = made(flames("deploy", "allow", "--remove", "parts"))
    assert "runs that need the package do not start any more" in said


def test_a_site_shows_its_identity_and_pins_those_of_other_sites(flames, deployed, tmp_path):
    folders = {name: deployed / "sites" / f"hospital-{name}" for name in "ab"}
    said = made(flames("deploy", "identity", "--site", folders["b"]))
    line = said.splitlines()[0]
    told = json.loads(made(flames("deploy", "identity", "--site", folders["b"], "--json")))
    assert line == f"hospital-b={told['identity']}"
    assert told == {"client": "hospital-b", "identity": told["identity"], "peers": {}}
    assert f"then at each other site: flames deploy pin {line}\n" in said
    said = made(flames("deploy", "pin", line, "--site", folders["a"]))
    assert "site.toml  sites with a pinned identity: hospital-b\nrestart the node" in said
    told = json.loads(
        made(flames("deploy", "pin", "hospital-b", "--remove", "--site", folders["a"], "--json"))
    )
    assert told == {"client": "hospital-a", "peers": {}}


WRONG = {
    "option": ((*INIT, "--hots", "x"), "no such option '--hots'"),
    "no host": (("deploy", "init", *SITES), "missing option '--host'"),
    "no site": (("deploy", "init", "--host", "a.org"), "missing option '--site'"),
    "port of words": ((*INIT, "--port", "https"), "invalid value for '--port'"),
    "no port": ((*INIT, "--port", 70000), "there is no port 70000"),
    "bad site": ((*INIT, "--site", "a b"), "'a b' cannot name a site"),
    "site twice": ((*INIT, "--site", "hospital-a"), "there is a site 'hospital-a' already"),
    "command": (("deploy", "start"), "no such command 'start'"),
    "no package": ((*INIT, "--allow", "no-such-package"), "package no-such-package is not installed here"),
    "two places to allow": (("deploy", "allow", "a", "--site", ".", "--deployment", "."), "pass one of them"),
    "two places": (("deploy", "check", "--site", ".", "--deployment", "."), "pass one of them"),
    "shard at the server": (("deploy", "check", "--shard", "a.h5"), "--shard and --superlink are for a site"),
    "key of no site": (("deploy", "key", "../a", "--out", "."), "'../a' cannot name a site"),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["line", "json"])
@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_ends_in_one_line_and_makes_nothing(what, as_json, error_line, tmp_path):
    command, says = WRONG[what]
    assert says in error_line(*command, *(["--json"] if as_json else []))
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_a_nested_command_s_error(flames):
    result = flames(*INIT, "--port", 0, "--debug")
    assert result.exit_code == 2
    assert "flames_cli.errors.FlamesError: " in result.stderr


@pytest.mark.parametrize("command", [("add", "c"), ("renew",), ("check",)])
def test_without_a_deployment_its_command_is_named(command, error_line):
    assert "make it with `flames deploy init`" in error_line("deploy", *command, code=3)


def test_a_folder_that_is_no_site_is_rejected(error_line, tmp_path):
    assert "no site.toml in " in error_line("deploy", "check", "--site", tmp_path, code=3)


def test_sites_are_added_with_and_without_keys_of_their_own(flames, deployed):
    said = made(flames("deploy", "add", "hospital-c"))
    assert "it contains a private key: send it encrypted" in said
    said = made(flames("deploy", "key", "hospital-d", "--out", "keys"))
    assert "node.key  stays here" in said
    assert "`flames deploy add hospital-d --public-key node.pub`" in said
    said = made(flames("deploy", "add", "hospital-d", "--public-key", "keys/node.pub"))
    assert "it contains no private key: the site adds its own node.key" in said
    assert not (deployed / "sites" / "hospital-d" / "node.key").exists()
    told = json.loads(made(flames("deploy", "check", "--json")))
    assert [one["what"] for one in told["findings"] if "public key is valid" in one["what"]] == [
        f"site hospital-{name}: its public key is valid" for name in "abcd"
    ]


def test_a_check_of_the_server_says_passed(flames, deployed):
    said = made(flames("deploy", "check"))
    assert "ok: server.crt names localhost\n" in said
    assert ": PASSED" in said.splitlines()[-1]


def test_a_check_reports_the_problem_and_its_fix_and_exits_with_4(flames, deployed):
    key = deployed / "server" / "server.key"
    key.chmod(0o644)
    result = flames("deploy", "check")
    assert result.exit_code == 4
    assert (
        "problem: other users can read the private key flames-deployment/server/server.key (mode 0644), "
        in (result.stdout)
    )
    assert "  what to do: chmod 600 flames-deployment/server/server.key\n" in result.stdout
    assert ": 1 problem" in result.stdout.splitlines()[-1]
    told = flames("deploy", "check", "--json")
    assert told.exit_code == 4
    assert json.loads(told.stdout)["passed"] is False


def test_a_renewed_certificate_passes(flames, deployed):
    said = made(flames("deploy", "renew", "--days", 100))
    assert said == (
        "→ flames-deployment/server/server.crt  is valid for 100 days; restart the server to use it\n"
    )
    assert "99 days from now" in made(flames("deploy", "check"))


def test_a_site_is_checked_in_the_current_folder(flames, deployed, monkeypatch):
    monkeypatch.chdir(deployed / "sites" / "hospital-a")
    told = flames("deploy", "check", "--json")
    assert told.exit_code == 4
    found = json.loads(told.stdout)
    assert found["checked"] == "site hospital-a"
    assert [one["state"] for one in found["findings"]].count("problem") == 1
    assert "skipped" in [one["state"] for one in found["findings"]]


def test_every_command_of_a_deployment_exists(flames):
    said = made(flames("deploy", "--help"))
    for command in ("init", "add", "key", "renew", "check", "server", "node", "status"):
        assert f"│ {command} " in said
