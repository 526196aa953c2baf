"""Plug-ins that a run needs at real nodes."""

from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.stages.federate.node_plugins import needed_packages, require_allowed
from flames_cli.store.deployment.folders import Deployment
from tests.support.plugins import make_package
from tests.support.stages import federate_config

ENTRIES = {
    "models": {"net-of-parts": "parts:net"},
    "losses": {"loss-of-parts": "parts:loss"},
    "augmentations": {"noise-of-parts": "parts:noise"},
    "strategies": {"rule-of-parts": "parts:RULE"},
}


class Rule:
    """Stands for a class of a plug-in."""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Installed packages, one for each group."""
    folder = tmp_path / "site"
    for group, entries in ENTRIES.items():
        make_package(folder, f"Parts_{group}", {group: entries}, version="1.0")
    monkeypatch.syspath_prepend(folder)


def config_of(tmp_path, **options):
    return federate_config(tmp_path, engine="superlink", **{"model_options": {}, **options})


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, []),
        ({"model": "net-of-parts"}, ["parts-models"]),
        ({"loss": "loss-of-parts"}, ["parts-losses"]),
        ({"augmentations": ("noise-of-parts", "gamma")}, ["parts-augmentations"]),
    ],
)
def test_clients_need_the_packages_of_what_they_compute(options, needed, parts, tmp_path):
    config = config_of(tmp_path, **options)
    assert needed_packages(config, get_algorithm("fedavg")) == dict.fromkeys(needed, "1.0")


def test_clients_need_the_package_of_a_strategy_only_for_its_own_local_update_rule(parts, tmp_path):
    config, plain = config_of(tmp_path, strategy="rule-of-parts"), get_algorithm("fedavg")
    assert needed_packages(config, plain) == {}
    own = replace(plain, local_update=Rule)
    assert needed_packages(config, own) == {"parts-strategies": "1.0"}


def test_a_run_whose_package_the_deployment_does_not_allow_is_refused_before_it_begins(parts, tmp_path):
    config, algorithm = config_of(tmp_path, model="net-of-parts"), get_algorithm("fedavg")
    for pins, allows in (((), "no such package"), (("parts-models==2.0",), r"parts-models 2\.0")):
        deployment = Deployment(tmp_path, "a.org", 9092, ("a",), pins)
        with pytest.raises(FlamesError, match=f"package parts-models 1.0 at .* allows {allows}; run"):
            require_allowed(config, algorithm, deployment)
    require_allowed(config, algorithm, Deployment(tmp_path, "a.org", 9092, ("a",), ("parts-models==1.0",)))
