"""Packages whose plug-ins a deployment's runs may use."""

import shutil

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.check import check_node, check_server
from flames_cli.stages.deploy.init import add_site, init_deployment
from flames_cli.stages.deploy.plugins import (
    allow_at_site,
    allow_in_deployment,
    check_plugins,
    pin_installed,
)
from flames_cli.store.deployment.folders import read_deployment, read_site
from tests.support.plugins import make_package

PARTS = {"models": {"a-model": "nowhere:Model"}}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the search path with two packages of plug-ins, and one without any."""
    folder = tmp_path / "packages"
    make_package(folder, "flames-example", PARTS, version="0.1.0")
    make_package(folder, "Other_Parts", PARTS, version="2.0")
    make_package(folder, "no-parts", {}, version="1.0")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize(
    ("typed", "pinned"),
    [
        ("flames-example", "flames-example==0.1.0"),
        ("Flames_Example == 0.1.0", "flames-example==0.1.0"),
        ("other.parts", "other-parts==2.0"),
    ],
)
def test_a_package_is_pinned_to_the_version_that_is_installed(typed, pinned, packages):
    assert pin_installed([typed]) == (pinned,)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("nowhere", "package nowhere is not installed here, .*run pip install nowhere$"),
        ("nowhere==3", "run pip install nowhere==3$"),
        (
            "flames-example==9",
            r"flames-example 0\.1\.0 is installed here, expected 9 as typed; run pip install",
        ),
        ("no-parts", r"no-parts 1\.0 has no plug-ins of FLAMES"),
        ("", "'' is no plug-in package, expected PACKAGE"),
        ("a>=1", "'a>=1' is no plug-in package"),
        ("--index-url==1", "is no plug-in package"),
        ("a==1; rm", "is no plug-in package"),
        ("a" * 101, "is no plug-in package"),
    ],
)
def test_a_package_that_cannot_be_pinned_is_one_message_and_makes_no_deployment(
    typed, says, packages, tmp_path
):
    with pytest.raises(FlamesError, match=says) as raised:
        init_deployment(tmp_path / "made", "localhost", 9092, ["a"], 30, [typed])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "made").exists()


def test_a_deployment_and_its_sites_name_their_packages(packages, tmp_path):
    made = init_deployment(tmp_path / "made", "localhost", 9092, ["a"], 30, ["flames-example"])
    assert read_deployment(made.path) == made
    assert read_site(made.site("a").path) == made.site("a")
    assert read_site(made.site("a").path).plugins == ("flames-example==0.1.0",)


def test_a_new_site_gets_the_packages_of_the_deployment_and_its_own(packages, tmp_path):
    made = init_deployment(tmp_path / "made", "localhost", 9092, ["a"], 30, ["flames-example"])
    add_site(made, "b", plugins=["other-parts"])
    both = ("flames-example==0.1.0", "other-parts==2.0")
    assert read_site(made.site("b").path).plugins == both
    assert read_deployment(made.path).plugins == both
    assert read_site(made.site("a").path).plugins == ("flames-example==0.1.0",)


def test_a_running_deployment_allows_a_package_and_forbids_it_again(packages, deployment):
    shutil.rmtree(deployment.site("b").path)  # it was sent to its site
    changed = allow_in_deployment(deployment, ["flames-example"])
    assert read_deployment(deployment.path) == changed
    assert read_site(deployment.site("a").path).plugins == ("flames-example==0.1.0",)
    assert not deployment.site("b").path.exists()
    left = allow_in_deployment(changed, ["flames-example"], remove=True)
    assert (left.plugins, read_site(deployment.site("a").path).plugins) == ((), ())
    assert read_deployment(deployment.path) == left == deployment


def test_a_site_allows_another_version_for_itself(packages, deployment):
    changed = allow_in_deployment(deployment, ["flames-example", "other-parts"])
    shutil.rmtree(packages / "flames_example-0.1.0.dist-info")
    make_package(packages, "flames-example", PARTS, version="0.2.0")
    site = allow_at_site(read_site(deployment.site("a").path), ["flames-example"])
    assert read_site(site.path).plugins == ("flames-example==0.2.0", "other-parts==2.0")
    assert read_deployment(deployment.path) == changed


def test_a_package_that_is_not_allowed_cannot_be_removed(packages, deployment):
    with pytest.raises(FlamesError, match="package nowhere is not allowed here, expected one of none"):
        allow_at_site(deployment.site("a"), ["nowhere"], remove=True)


def test_a_check_names_each_allowed_package_with_its_pip_line(packages, deployment):
    pins = ("flames-example==0.1.0", "other-parts==1.9", "gone==1.0")
    installed, other, missing = check_plugins(pins)
    assert installed.what == "plug-in package flames-example 0.1.0 is installed and allowed"
    assert installed.state == "ok"
    assert (other.state, other.what) == (
        "problem",
        "plug-in package other-parts 1.9 is allowed, and 2.0 is installed here",
    )
    assert other.fix.startswith("run pip install other-parts==1.9, or allow")
    assert missing.what == "plug-in package gone 1.0 is allowed, and is not installed here"
    assert missing.fix == "run pip install gone==1.0"


def test_a_check_of_the_server_and_of_a_site_includes_the_packages(packages, deployment):
    changed = allow_in_deployment(deployment, ["flames-example"])
    for found in (check_server(changed), check_node(read_site(changed.site("a").path))):
        assert [one.state for one in found if "flames-example" in one.what] == ["ok"]
