import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin, Registry, allow_only, use_files
from flames_cli.plugins.installed import _read
from tests.support.plugins import make_package

BUILT_IN = {"plain": "math:sqrt", "ready": abs}


def registry(**options) -> Registry:
    return Registry("models", BUILT_IN, {"plain": "a root"}, **options)


@pytest.fixture(autouse=True)
def _fresh_packages(site):
    """The search path is the same in no two tests, but a test writes after its first look."""
    _read.cache_clear()


def test_built_in_members_are_found_without_a_look_at_packages(monkeypatch):
    monkeypatch.setattr("flames_cli.plugins.registry.installed_plugins", lambda: pytest.fail("it looked"))
    made = registry()
    assert made["plain"](9) == 3
    assert made.look_up("ready") is abs
    assert "plain" in made
    assert made.origin("plain") is None
    assert made.summary("plain") == "a root"


def test_a_plug_in_is_a_member_with_its_package_and_version(site):
    make_package(site, "Some.Thing", {"models": {"tiny": "thing:NET"}}, {"thing": "NET = 'net'"}, "2.1")
    made = registry()
    assert list(made) == ["plain", "ready", "tiny"]
    assert made["tiny"] == "net"
    assert made.origin("tiny") == Origin("models", "tiny", "Some.Thing", "2.1", "thing:NET")
    assert made.summary("tiny") == "plug-in of Some.Thing 2.1"


def test_names_are_listed_without_an_import(site):
    make_package(site, "broken", {"models": {"tiny": "broken_thing:NET"}}, {"broken_thing": "raise OSError"})
    made = registry()
    assert list(made) == [*BUILT_IN, "tiny"] == list(made.listed())
    assert "tiny" in made
    made.require_known("tiny")
    assert "broken_thing" not in sys.modules


ENDS = {
    "an error": ("raise ValueError('no such\\nfile')", "ValueError: no such"),
    "a missing package": ("import torchy_torch", "ModuleNotFoundError: No module named 'torchy_torch'"),
    "an exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "a strange exception": ("class Odd(BaseException): pass\nraise Odd", "Odd"),
    "a missing attribute": ("", "AttributeError: module 'fails' has no attribute 'NET'"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_plug_in_that_fails_on_import_costs_nothing_but_itself(end, site, monkeypatch):
    source, shown = ENDS[end]
    make_package(site, "failing", {"models": {"bad": "fails:NET", "good": "works:NET"}})
    (site / "fails.py").write_text(source)
    (site / "works.py").write_text("NET = 1")
    monkeypatch.delitem(sys.modules, "fails", raising=False)
    monkeypatch.delitem(sys.modules, "works", raising=False)
    made = registry()
    assert made["good"] == 1
    with pytest.raises(FlamesError) as error:
        made["bad"]
    assert f"the plug-in failing 1.0 fails on import, which the model 'bad' needs ({shown}" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_an_interruption_during_an_import_is_one(site, monkeypatch):
    make_package(site, "slow", {"models": {"slow": "slow_net:NET"}}, {"slow_net": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        registry()["slow"]


def test_what_a_plug_in_prints_on_import_does_not_reach_stdout(site, capsys):
    make_package(site, "loud", {"models": {"loud": "loud_net:NET"}}, {"loud_net": "print('hello')\nNET = 1"})
    assert registry()["loud"] == 1
    assert capsys.readouterr() == ("", "hello\n")


def test_an_object_of_the_wrong_kind_is_named(site):
    make_package(site, "wrong", {"models": {"wrong": "wrong_net:NET"}}, {"wrong_net": "NET = 'text'"})
    made = registry(check=lambda found: "it is a text" if isinstance(found, str) else "")
    with pytest.raises(FlamesError, match=r"wrong 1.0 gives the model 'wrong', which cannot be used: it is"):
        made["wrong"]


def test_a_name_that_two_packages_give_is_used_by_neither(site):
    make_package(site, "one", {"models": {"same": "one:A", "own": "one:A"}}, {"one": "A = 1"})
    make_package(site, "two", {"models": {"same": "two:A"}}, {"two": "A = 2"})
    made = registry()
    assert list(made) == [*BUILT_IN, "own"]
    assert "same" not in made
    for ask in (made.__getitem__, made.look_up, made.require_known):
        with pytest.raises(
            FlamesError, match=r"'same' is given by two plug-ins, (one|two) 1.0 and (one|two) "
        ):
            ask("same")
    (problem,) = map(str, made.problems())
    assert re.match("(one|two) 1.0: it gives the model 'same', and so does (one|two) 1.0: neither", problem)


def test_the_built_in_member_wins_over_a_plug_in_of_its_name(site):
    make_package(site, "thief", {"models": {"plain": "thief:A", "alias": "thief:A"}}, {"thief": "A = 1"})
    made = registry(reserved={"alias": "plain"})
    assert made["plain"](4) == 2
    assert "alias" not in made
    assert [one.text.split(", which is ")[1].split(":")[0] for one in made.problems()] == [
        "built in",
        "another name of 'plain'",
    ]


@pytest.mark.parametrize("name", ["Tiny", "my net", "café", "a" * 41, "-a", "a_b"])
def test_a_name_of_another_form_is_no_member(name, site):
    make_package(site, "odd", {"models": {name: "odd:A"}}, {"odd": "A = 1"})
    made = registry()
    assert list(made) == [*BUILT_IN]
    assert [one.text[-40:] for one in made.problems()] == ["use at most 40 small letters, digits and -"[-40:]]


def test_the_first_copy_of_a_package_on_the_path_counts(site, monkeypatch):
    make_package(site, "twice", {"models": {"old": "twice_old:A"}}, {"twice_old": "A = 1"}, "1.0")
    newer = site.parent / "newer"
    make_package(newer, "Twice", {"models": {"new": "twice_new:A"}}, {"twice_new": "A = 2"}, "2.0")
    monkeypatch.syspath_prepend(newer)
    made = registry()
    assert list(made) == [*BUILT_IN, "new"]
    assert str(made.origin("new")) == "Twice 2.0"


def test_damaged_metadata_costs_nothing_but_their_package(site):
    make_package(site, "good", {"models": {"good": "good_net:A"}}, {"good_net": "A = 1"})
    (site / "no_metadata-3.dist-info").mkdir()
    (site / "no_metadata-3.dist-info" / "entry_points.txt").write_text("[flames.models]\nbare = good_net:A\n")
    (site / "bad_lines-1.dist-info").mkdir()
    (site / "bad_lines-1.dist-info" / "METADATA").write_text("Name: bad-lines\nVersion: 1\n")
    (site / "bad_lines-1.dist-info" / "entry_points.txt").write_text("[flames.models]\nno equals sign\n")
    (site / "binary-1.dist-info").mkdir()
    (site / "binary-1.dist-info" / "entry_points.txt").write_bytes(b"[flames.models]\n\xff\xfe = x\n")
    make_package(site, "unversioned", {"models": {"plainer": "good_net:A"}}, version=None)
    made = registry()
    assert list(made) == [*BUILT_IN, "bare", "good", "plainer"]
    assert str(made.origin("bare")) == "no_metadata unknown"
    assert str(made.origin("plainer")) == "unversioned unknown"


def test_an_unknown_name_lists_the_known_ones_and_a_near_one(site):
    with pytest.raises(
        FlamesError,
        match=r"^model 'plan' is not known \(did you mean plain\?\); choose one of plain, ready; a plug-in "
        "may offer it: `flames info --plugins`$",
    ):
        registry().look_up("plan")
    with pytest.raises(KeyError):
        registry()["plan"]


def test_only_allowed_packages_give_members(site, tmp_path):
    make_package(site, "one-thing", {"models": {"one": "one_thing:A"}}, {"one_thing": "A = 1"}, "1.0")
    make_package(site, "two", {"models": {"two": "two_thing:A"}}, {"two_thing": "A = 1"}, "2.0")
    own = tmp_path / "own.py"
    own.write_text("raise SystemExit('it was run')")
    use_files([own])
    allow_only({"One_Thing": "1.0", "two": "2.1"})
    assert list(registry()) == [*BUILT_IN, "one"]
    with pytest.raises(FlamesError, match=r"'two' is of the plug-in two 2.0, which this site does not allow"):
        registry().look_up("two")
    allow_only({})
    assert list(registry()) == [*BUILT_IN]
    allow_only(None)
    assert list(registry()) == [*BUILT_IN, "one", "two"]


def test_a_damaged_list_of_allowed_packages_allows_none(site, monkeypatch):
    make_package(site, "one", {"models": {"one": "one:A"}})
    for text in ("", "{", "[]", "null"):
        monkeypatch.setenv("FLAMES_ALLOWED_PLUGINS", text)
        assert list(registry()) == [*BUILT_IN]


PARTS = [*"[]=:.#; \n\r\tab-é", "flames.models", "flames.", "x = y:Z\n"]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=40))
def test_whatever_stands_in_entry_points_is_read_or_is_a_problem(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    make_package(folder, "odd", {"models": {"good": "a:B"}})
    with (folder / "odd-1.0.dist-info" / "entry_points.txt").open("a", encoding="utf-8", newline="") as file:
        file.writelines(parts)
    found, problems = _read.__wrapped__((str(folder),))
    assert found or problems
    assert all("\n" not in str(one) for one in (*found, *problems))
