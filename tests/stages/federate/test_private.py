"""Differential privacy, from shards to a finished run."""

import json
import math

import pytest

from flames_cli.cli.render_evaluation import evaluation_notes
from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError
from flames_cli.fed.jobs import Job
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.stages.evaluate.loading import _privacy_facts
from flames_cli.stages.federate import run_files
from flames_cli.stages.federate.planning import choose_algorithm, make_plan
from flames_cli.stages.federate.server_app import open_job
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.clients import read_clients
from flames_cli.store.runs import RunFolder
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import evaluate_run, federate_config

PRIVATE = {"strategy": "fedavg-modality", "dp_noise": 0.8, "dp_clip": 0.05}
SECRET = bytes(range(100, 132))


def state_of(result):
    return load_state(result.folder / "checkpoints")


def without_accountant(line):
    entries = json.loads(line)
    assert entries.pop("accountant") == "pld"
    return json.dumps(entries)


@pytest.fixture
def _accountant():
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")


@pytest.fixture
def one_secret(monkeypatch):
    """Give every run the same secret."""
    monkeypatch.setattr(run_files.secrets, "token_bytes", lambda n: SECRET[:n])


@pytest.mark.federated
@pytest.mark.usefixtures("_accountant", "one_secret")
def test_a_private_run_reports_its_cost_and_resumes_to_the_last_bit(tiny, monkeypatch):
    root = tiny()
    whole = federate(federate_config(root, rounds=2, run="whole", **PRIVATE))
    spent = [privacy_spent(Privacy(0.8, 0.05, 1e-5), rounds) for rounds in (1, 2)]
    assert [(record["epsilon"], record["delta"]) for record in whole.records] == [
        (told["epsilon"], told["delta"]) for told in spent
    ]
    # No client is rejected though the clip is far below the client's update: clients clip themselves.
    assert [record["rejected"] for record in whole.records] == [{}] * 2

    joined = read_clients(whole.folder / "clients.json")
    assert {one.n_train for one in joined} | {one.n_val for one in joined} == {None}
    assert whole.final["earlier"] == [], "the best round is not chosen by what single clients report"
    assert (
        whole.chosen.why
        == "the last round, since --dp-noise does not cover a choice by the clients' validation"
    )
    with pytest.raises(FlamesError, match="offers only its last round 2"):
        evaluate_run(root, "whole", round="best")

    federate(federate_config(root, rounds=1, run="halved", **PRIVATE))
    halved = federate(federate_config(root, rounds=2, run="halved", **PRIVATE))
    assert_same_state(state_of(halved), state_of(whole))
    assert state_of(halved).releases == 2
    assert without_timings(halved.records) == without_timings(whole.records)

    # A round that was released, lost and repeated is counted again, whichever process repeats it.
    (halved.folder / "checkpoints" / "round-00002" / "server-MRI.safetensors").write_bytes(b"")
    federate(federate_config(root, rounds=1, run="halved", **PRIVATE))
    assert load_state(halved.folder / "checkpoints").releases == 2
    again = federate(federate_config(root, rounds=2, run="halved", **PRIVATE))
    assert state_of(again).releases == 3
    assert again.records[-1]["epsilon"] == privacy_spent(Privacy(0.8, 0.05, 1e-5), 3)["epsilon"]
    assert_same_state(state_of(again), state_of(whole))

    result = evaluate_run(root, "whole", server_test=True)
    told = json.loads((result.folder / "evaluation.json").read_text())["privacy"]
    expected = {"epsilon": spent[-1]["epsilon"], "delta": 1e-5, "noise": 0.8, "clip": 0.05}
    assert told == result.content.privacy
    assert {**told, **expected, "rounds": 2, "releases": 2, "unit": "client"} == told
    (note,) = (note for note in evaluation_notes(result) if note.startswith("privacy: "))
    assert f"epsilon {expected['epsilon']:.3g} (delta 1e-05) after 2 releases with noise 0.8" in note

    # A line of an earlier release names no accountant, and its epsilon stays what it was.
    lines = [
        without_accountant(line) for line in whole.folder.joinpath("rounds.jsonl").read_text().splitlines()
    ]
    whole.folder.joinpath("rounds.jsonl").write_text("\n".join(lines) + "\n")
    older = _privacy_facts(federate_config(root, **PRIVATE), RunFolder(whole.folder), state_of(whole))
    assert older == {**told, "accountant": "rdp"}

    secret_file = whole.folder / "noise.key"
    assert secret_file.stat().st_mode & 0o777 == 0o600
    others = [path for path in whole.folder.rglob("*") if path.is_file() and path != secret_file]
    assert not any(
        SECRET in path.read_bytes() or SECRET.hex().encode() in path.read_bytes() for path in others
    )
    opened = open_job(Job(whole.folder, ALL_AT_ONCE))
    assert opened.noise_secret == SECRET
    assert opened.plan.algorithm.privacy == Privacy(0.8, 0.05, 1e-5)
    assert SECRET.hex() not in repr(opened)

    with pytest.raises(FlamesError, match=r"dp_noise 0\.8 → 0\.9"):
        federate(federate_config(root, run="whole", **{**PRIVATE, "dp_noise": 0.9}))


@pytest.mark.federated
@pytest.mark.usefixtures("_accountant")
def test_the_noise_is_the_secrets_not_the_seeds_and_what_is_narrowed_is_taken(tiny):
    root = tiny()
    entry = "encoders.0.0.weight"
    first, other = (
        federate(federate_config(root, rounds=1, run=name, wire_dtype="bf16", **PRIVATE))
        for name in ("one", "two")
    )
    assert first.records[0]["rejected"] == other.records[0]["rejected"] == {}
    assert (state_of(first).server["US"][entry] != state_of(other).server["US"][entry]).all()


def test_a_secret_that_is_damaged_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    plan = make_plan(federate_config(tmp_path, **PRIVATE), {"size": 16, "channels": 1}, None)
    assert len(run_files.ensure_noise_secret(folder, plan)) == 32
    folder.noise_secret.write_bytes(b"short")
    with pytest.raises(FlamesError, match=r"noise\.key has 5 bytes, expected 32; delete it"):
        run_files.ensure_noise_secret(folder, plan)


@pytest.mark.parametrize(
    "strategy", ["fedavg", "fedavg-modality", "fedgs", "fedgs-unscaled", "fedprox", "fedadam"]
)
def test_strategies_that_take_one_mean_can_be_private_and_every_client_counts_the_same(strategy, tmp_path):
    algorithm = choose_algorithm(
        federate_config(tmp_path, **{**PRIVATE, "strategy": strategy, "dp_delta": 1e-3})
    )
    assert (algorithm.weight, algorithm.needs_steps) == ("uniform", False)
    assert algorithm.privacy == Privacy(0.8, 0.05, 1e-3)


def test_real_nodes_are_not_compared_with_each_other_in_a_private_run(tmp_path):
    private = federate_config(tmp_path, engine="superlink", encoder_weights="none", **PRIVATE)
    facts = {"size": 32, "channels": 1}
    assert make_plan(private, facts, None).max_update_norm == math.inf
    assert make_plan(federate_config(tmp_path, engine="superlink"), facts, None).max_update_norm < math.inf


ABLE = (
    "use fedavg, fedavg-modality, fedgs, fedgs-unscaled, fedprox, fedadam (fedavg-modality is nearest to "
    "flames"
)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dp_clip": None}, "got --dp-noise alone; pass both --dp-noise and --dp-clip, or neither"),
        ({"dp_noise": None}, "got --dp-clip alone"),
        ({"dp_noise": None, "dp_clip": None, "dp_delta": 1e-3}, "got --dp-delta alone"),
        ({"style_from": 2}, "leave --style-from out"),
        ({"max_update_norm": 10.0}, "leave --max-update-norm out"),
        *(
            ({"strategy": name, "optimiser": "sgd"}, ABLE)
            for name in ("flames", "flames-fedgs", "fedbn", "fednova", "scaffold", "local", "centralised")
        ),
    ],
)
def test_what_cannot_be_private_is_rejected(changes, says, tmp_path):
    with pytest.raises(FlamesError) as caught:
        choose_algorithm(federate_config(tmp_path, **{**PRIVATE, **changes}))
    assert says in str(caught.value)


def test_a_missing_accountant_is_reported_before_anything_is_written(tiny, monkeypatch):
    monkeypatch.setattr("flames_cli.fed.privacy_accountant.importlib.util.find_spec", lambda _: None)
    root = tiny()
    with pytest.raises(FlamesError, match="dp-accounting, which is not installed"):
        federate(federate_config(root, **PRIVATE))
    assert not (root / "runs").exists()
