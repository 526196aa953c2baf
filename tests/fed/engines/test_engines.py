"""The description of every engine."""

from typing import get_args

from flames_cli.config import FederateConfig
from flames_cli.fed.engines import ENGINES


def test_every_engine_that_the_configuration_allows_is_described():
    assert set(get_args(FederateConfig.model_fields["engine"].annotation)) == set(ENGINES)


def test_only_real_nodes_hold_the_clients_data():
    assert [name for name, engine in ENGINES.items() if engine.clients_hold_their_data] == ["superlink"]
