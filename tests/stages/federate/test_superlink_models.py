"""Three real nodes end a federation each with its own model, which is that of the server's checkpoint."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from flames_cli.fed.events import Event, Noted
from flames_cli.learn.use import open_model
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.clients import read_clients, write_clients
from flames_cli.store.models import read_model
from flames_cli.store.runs import RunFolder
from tests.support.asserts import assert_same
from tests.support.cluster import SECONDS, Cluster, end, make_cluster
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long]

SITES = {"brats-1": "MRI", "brats-2": "MRI", "busi": "US"}


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory) -> Iterator[Cluster]:
    yield from make_cluster(workspace(), tmp_path_factory.mktemp("cluster"), {"brats": 2}, tuple(SITES))


def flames(*arguments: object) -> str:
    """Return what a command prints in a terminal of 80 columns."""
    ended = subprocess.run(
        [sys.executable, "-m", "flames_cli", *map(str, arguments)],
        capture_output=True,
        check=True,
        timeout=SECONDS,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    return ended.stdout


def test_each_node_ends_with_its_own_model_and_one_that_was_offline_gets_it_later(cluster):
    options = {"engine": "superlink", "deployment": cluster.deployment.path, "wait_for_clients": SECONDS}
    config = federate_config(cluster.workspace, run="real", **options)
    events: list[Event] = []
    result = federate(config, events.append)
    run = RunFolder(result.folder)
    state = load_state(run.checkpoints, result.chosen.round)
    for name, modality in SITES.items():
        folder = cluster.deployment.site(name).models
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["real"]
        info, weights = read_model(folder / "real")
        assert_same(weights, state.final_model_for(name, modality, modality))
        assert (info.training.client, info.training.round) == (name, result.chosen.round)
        assert {one.client for one in info.training.clients} == {name}
        images = np.zeros((1, info.input.size, info.input.size), np.float32)
        assert open_model(info, weights, "cpu", "fp32").probabilities(images).shape == images.shape
        for sentence in (
            "run real begins: 2 rounds, strategy flames",
            "round 2 of 2: ",
            "next: the server makes the final models",
            ": models/real-best-so-far",
            f"flames predict --model {folder / 'real'} IMAGES --out masks",
        ):
            cluster.wait_until_said(name, sentence)
    assert result.models_kept == dict.fromkeys(SITES, True)
    assert not [event for event in events if isinstance(event, Noted) and "own model" in event.note]

    # As if busi had been offline: its model is sent by the same command, and nothing else is done.
    known = read_clients(run.joined_clients)
    write_clients(run.joined_clients, [one for one in known if one.client != "busi"])
    tests, rounds = run.client_tests.read_bytes(), run.rounds.read_bytes()
    again = federate(config)
    assert again.models_kept == dict.fromkeys(SITES, True)
    assert read_clients(run.joined_clients) == known
    assert (run.client_tests.read_bytes(), run.rounds.read_bytes()) == (tests, rounds)

    end(cluster.commands["busi"])
    write_clients(run.joined_clients, [one for one in known if one.client != "busi"])
    missed = federate(federate_config(cluster.workspace, run="real", **{**options, "wait_for_clients": 5}))
    (note,) = (note for note in missed.notes if "own model" in note)
    assert "busi: it was not present after the last round" in note

    shown = flames("deploy", "status", "--deployment", cluster.deployment.path)
    assert max(map(len, shown.splitlines())) <= 80
    assert "2 of 2" in shown
    (listed,) = json.loads(flames("deploy", "status", "--json", "--deployment", cluster.deployment.path))[
        "runs"
    ]
    assert (listed["name"], listed["state"], listed["clients_in"]) == ("real", "finished", [*SITES])
