"""Admission of a node by the plug-ins that a run needs; tests/fed/test_roster.py has its other rules."""

import pytest

from flames_cli.fed.admission import Requirements
from flames_cli.plugins.packages import packages_text
from tests.support.federation import SIZE, make_profile

NEEDED = {"flames-example": "0.1.0"}


def reason(plugins, **changes):
    profile = make_profile("a", plugins=packages_text(plugins), **changes)
    return Requirements(SIZE, 1, plugins=NEEDED).rejection_reason(profile, "a", set())


def test_a_node_with_the_version_of_the_run_is_admitted_whatever_else_it_allows():
    assert reason({**NEEDED, "other": "", "third": "3"}) is None


@pytest.mark.parametrize(
    ("plugins", "says"),
    [
        ({}, "its owner does not allow plug-in package flames-example, and this run needs version 0.1.0; "),
        ({"flames-example": ""}, "has not installed the allowed version, and this run needs 0.1.0; "),
        (
            {"flames-example": "0.2.0"},
            "it has version 0.2.0 of plug-in package flames-example, and this ",
        ),
    ],
)
def test_a_node_without_the_version_of_the_run_is_rejected_by_name_with_what_to_do(plugins, says):
    found = reason(plugins)
    assert says in found
    assert found.endswith(
        "run pip install flames-example==0.1.0 and `flames deploy allow flames-example==0.1.0` there, and "
        "restart its node"
    )


def test_a_node_of_an_earlier_release_is_rejected_by_its_protocol_first():
    assert reason({}, protocol=11).startswith("it speaks protocol 11, this server 12; install the same")


def test_a_run_without_plugins_admits_every_node():
    profile = make_profile("a", plugins=packages_text({"other": "1.0"}))
    assert Requirements(SIZE, 1).rejection_reason(profile, "a", set()) is None


@pytest.mark.parametrize(
    ("required", "secure", "admitted"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_node_that_requires_secure_aggregation_joins_no_other_run(required, secure, admitted):
    profile = make_profile("a", secure_only=required)
    found = Requirements(SIZE, 1, secure=secure).rejection_reason(profile, "a", set())
    assert (found is None) == admitted
    assert (
        admitted
        or "its owner takes part only in runs with secure aggregation, and this run has none" in found
    )
