"""Differential privacy without a trusted server, from shards to a finished run: clients add the noise."""

import json

import numpy as np
import pytest

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.stages.federate import run_files
from flames_cli.stages.federate.planning import choose_algorithm
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import note_opening
from tests.support.stages import evaluate_run, federate_config

PRIVATE = {"strategy": "fedavg", "secure_aggregation": True, "dp_noise": 0.8, "dp_clip": 0.05}
SPENT = [privacy_spent(Privacy(0.8, 0.05, 1e-5), releases)["epsilon"] for releases in (1, 2, 3)]


@pytest.fixture(autouse=True)
def _accountant():
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")


@pytest.mark.federated
def test_a_run_whose_clients_add_the_noise_counts_every_opened_sum(tiny, monkeypatch):
    root = tiny()
    first = federate(federate_config(root, rounds=1, run="a", **PRIVATE))
    assert [record["epsilon"] for record in first.records] == SPENT[:1]
    assert first.records[0]["groups"] == {"all": {"clients": 3}}
    assert not (first.folder / "noise.key").exists(), "the server draws no noise"
    assert first.final is None, "the server asks for no scores of single clients"

    # A server that dies after the sum was opened, before its checkpoint.
    monkeypatch.setattr(run_files, "append_round", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        federate(federate_config(root, rounds=2, run="a", **PRIVATE))
    monkeypatch.undo()
    second = federate(federate_config(root, rounds=2, run="a", **PRIVATE))
    assert [record["epsilon"] for record in second.records] == [SPENT[0], SPENT[2]]
    lines = (first.folder / "openings.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"round": round_, "groups": ["all"]} for round_ in (1, 2, 2)
    ]

    result = evaluate_run(root, "a", server_test=True)
    told = result.content.privacy
    assert (told["epsilon"], told["releases"], told["accountant"]) == (SPENT[2], 3, "pld")


@pytest.mark.federated
def test_noise_does_not_follow_from_the_seed(tiny):
    root = tiny()
    models = [
        load_state(federate(federate_config(root, rounds=1, run=run, **PRIVATE)).folder / "checkpoints")
        for run in ("a", "b")
    ]
    one, other = (state.server["all"]["encoders.0.0.weight"] for state in models)
    assert (one != other).any()
    assert np.isfinite(one).all()


@pytest.mark.parametrize("strategy", ["flames", "flames-adaptive", "flames-fedgs"])
def test_personalised_models_are_refused_with_the_reason(strategy, tmp_path):
    with pytest.raises(FlamesError, match="has more than one mean to blur, so it cannot have --dp-noise"):
        choose_algorithm(federate_config(tmp_path, **{**PRIVATE, "strategy": strategy}))


def test_openings_are_counted_by_group_and_a_damaged_line_counts_for_all(tmp_path):
    path = tmp_path / "openings.jsonl"
    assert note_opening(path, 1, ["MRI", "US"]) == 1
    assert note_opening(path, 2, ["MRI"]) == 2
    assert note_opening(path, 2, ["US"]) == 2
    path.write_text(path.read_text() + '{"round": 3, "gro\n[]\n{"groups": 3}\n')
    assert note_opening(path, 3, ["US"]) == 6
