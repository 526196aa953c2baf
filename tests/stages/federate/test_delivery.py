"""The record of which clients have their own model, in clients.json of a run."""

from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.jobs import Job
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.stages.federate.run_files import (
    find_kept,
    has_missing_models,
    make_client_saver,
    make_delivery,
)
from flames_cli.stages.federate.server_app import open_job
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.clients import KeptModel, read_clients
from flames_cli.store.runs import RunFolder, read_config, write_config
from tests.support.federation import make_profile
from tests.support.stages import federate_config

pytestmark = pytest.mark.federated


@pytest.fixture
def run(tiny):
    """Return a finished run of one round, and its options."""
    config = federate_config(tiny(), rounds=1)
    return RunFolder(federate(config).folder), config


def test_a_run_has_missing_models_until_every_client_has_stored_that_of_the_chosen_round(run):
    folder, config = run
    state, delivery = load_state(folder.checkpoints), make_delivery(folder, config)
    clients = [one.client for one in read_clients(folder.joined_clients)]
    assert delivery.find_kept() == {}
    for client in clients:
        assert has_missing_models(folder, config, state)
        delivery.save(client, KeptModel(1, "0" * 64))
    assert not has_missing_models(folder, config, state)
    assert set(find_kept(folder)) == set(clients)
    delivery.save(clients[0], KeptModel(7, "0" * 64))
    assert has_missing_models(folder, config, state), "its model is of another round"


def test_a_client_that_joins_again_keeps_its_record(run):
    folder, config = run
    client = read_clients(folder.joined_clients)[0]
    make_delivery(folder, config).save(client.client, KeptModel(1, "0" * 64))
    make_client_saver(folder, open_job(Job(folder.path, ALL_AT_ONCE)).plan)(
        [make_profile(client.client, client.modality, 99)]
    )
    found = read_clients(folder.joined_clients)[0]
    assert (found.n_train, found.kept) == (99, KeptModel(1, "0" * 64))


def test_a_damaged_record_costs_that_the_models_are_sent_again(run):
    folder, config = run
    folder.joined_clients.write_text("{", encoding="utf-8")
    assert find_kept(folder) == {}
    assert has_missing_models(folder, config, load_state(folder.checkpoints))
    with pytest.raises(FlamesError):
        read_clients(folder.joined_clients)


def test_the_reason_for_the_round_is_that_of_the_choice(run):
    folder, config = run
    state, explain = load_state(folder.checkpoints), make_delivery(folder, config).explain
    assert explain(state).startswith("the ")
    assert "newer than the best round" in explain(replace(state, round=9))


def test_a_run_that_is_opened_again_for_missing_models_does_not_repeat_its_tests(run):
    folder, _ = run
    tables = read_config(folder.config)
    tables["federate"]["engine"] = "superlink"
    write_config(folder.config, {key: tables[key] for key in ("federate", "run")})
    opened = open_job(Job(folder.path, ALL_AT_ONCE))
    assert opened.delivery is not None
    assert opened.save_evaluations is not None
    folder.client_tests.write_text("{}", encoding="utf-8")
    assert open_job(Job(folder.path, ALL_AT_ONCE)).save_evaluations is None
