"""Options of the public functions: a configuration, a file, or keywords; and what is wrong with them."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import flames_cli as flames
from flames_cli.api.options import find_workspace, make_config
from tests.api.conftest import TOY


def options(config=None, **given) -> flames.FederateConfig:
    return make_config(flames.FederateConfig, config, given)


def test_keywords_replace_the_options_of_a_configuration_and_of_a_file(tmp_path):
    base = flames.FederateConfig(rounds=7, lr=0.5)
    made = options(base, rounds=3)
    assert (made.rounds, made.lr, made.model_fields_set) == (3, 0.5, {"rounds", "lr"})
    assert options(base) == base
    file = tmp_path / "flames.toml"
    file.write_text('[federate]\nrounds = 9\nstrategy = "fedavg"\n')
    for path in (file, str(file)):
        assert (options(path, rounds=4).rounds, options(path).strategy) == (4, "fedavg")


def test_numbers_of_numpy_and_paths_of_any_kind_are_taken(tmp_path):
    made = options(
        rounds=np.int64(4), lr=np.float32(0.25), seeds=np.arange(2), workspace=flames.Workspace(tmp_path)
    )
    assert (made.rounds, made.lr, made.seeds, made.workspace) == (4, 0.25, (0, 1), tmp_path)
    assert type(made.rounds) is int
    assert options(seeds=range(3)).seeds == (0, 1, 2)


def test_one_value_may_be_given_for_a_list():
    assert make_config(flames.PartitionConfig, None, {"datasets": "busi"}).datasets == ("busi",)
    assert make_config(flames.CompareConfig, None, {"runs": ["a", "b"]}).runs == ("a", "b")
    found = make_config(flames.PredictConfig, None, {"inputs": Path("a.png"), "labels": "2,3"})
    assert (found.inputs, found.labels) == (("a.png",), ("2", "3"))


def test_a_configuration_takes_the_same_values(tmp_path):
    made = flames.FederateConfig(workspace=flames.Workspace(tmp_path), seeds=range(2), rounds=np.int32(3))
    assert (made.workspace, made.seeds, made.rounds) == (tmp_path, (0, 1), 3)
    assert flames.CompareConfig(runs="flames").runs == ("flames",)


def test_the_workspace_of_the_environment_is_the_default(tmp_path, monkeypatch):
    assert (options().workspace, find_workspace(None)) == (Path("flames-workspace"), Path("flames-workspace"))
    monkeypatch.setenv("FLAMES_WORKSPACE", str(tmp_path))
    assert options().workspace == options(flames.FederateConfig(rounds=3)).workspace == tmp_path
    assert flames.Workspace().path == tmp_path
    other = tmp_path / "other"
    assert (
        options(workspace=other).workspace
        == options(flames.FederateConfig(workspace=other)).workspace
        == other
    )


WRONG = {
    "a typing error": (
        {"stratgy": "flames"},
        "stratgy: extra inputs are not permitted, did you mean strategy",
    ),
    "a number out of range": ({"rounds": 0}, "rounds: input should be greater than or equal to 1 (got 0)"),
    "a text for a number": ({"rounds": "many"}, "rounds: input should be a valid integer"),
    "an unknown choice": ({"device": "gpu"}, "did you mean cuda?"),
    "an unknown strategy": ({"strategy": "flamse"}, "strategy 'flamse' is not known"),
    "an unknown model": ({"model": "unte"}, "model 'unte' is not known"),
    "a configuration of another kind": ({"config": flames.PartitionConfig()}, "got PartitionConfig as the"),
    "several mistakes": (
        {"rounds": 0, "lr": -1},
        "lr: input should be greater than 0 (got -1); rounds: input should",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_options_give_one_line(what, tmp_path):
    given, expected = WRONG[what]
    with pytest.raises(flames.FlamesError) as caught:
        flames.federate(workspace=tmp_path, **given)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


def test_a_configuration_itself_gives_the_same_line():
    with pytest.raises(flames.FlamesError) as caught:
        flames.FederateConfig(rounds=0, stratgy="flames")
    assert str(caught.value) == (
        "rounds: input should be greater than or equal to 1 (got 0); stratgy: extra inputs are not "
        "permitted, did you mean strategy? (got 'flames')"
    )


def test_a_workspace_without_an_artifact_names_the_command_that_makes_it(tmp_path):
    gone = tmp_path / "gone"
    for call, command in (
        (lambda: flames.partition(workspace=gone), "flames preprocess"),
        (lambda: flames.federate(workspace=gone), "flames partition"),
        (lambda: flames.evaluate(workspace=gone), "flames federate"),
        (lambda: flames.compare(runs=["a"], workspace=gone), "flames federate"),
        (lambda: flames.open_run("a", gone), "flames federate"),
        (lambda: flames.open_partition("a", gone), "flames partition"),
        (lambda: flames.open_evaluation("a", gone), "flames evaluate"),
        (lambda: flames.load_model("a", workspace=gone), "flames export"),
    ):
        with pytest.raises(flames.MissingArtifact, match=f"`{command}"):
            call()
    assert not gone.exists()
    found = flames.Workspace(gone)
    assert (found.runs(), found.models(), found.partitions(), found.evaluations()) == ([], [], [], [])


def test_a_file_in_place_of_the_workspace_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for call in (
        lambda: flames.Workspace(tmp_path / "file"),
        lambda: flames.partition(workspace=tmp_path / "file"),
    ):
        with pytest.raises(flames.FlamesError, match="is a file, expected the workspace's folder"):
            call()


def test_completion_knows_every_option():
    parameters = inspect.signature(flames.federate).parameters
    assert parameters["strategy"].default == "flames"
    assert {"progress", "resume", "rounds", "min_clients", "workspace"} <= {*parameters}
    assert "seeds" not in parameters


def test_a_call_with_the_options_of_a_run_continues_it(study):
    run = flames.open_run("flames", study)
    assert options(run.config).workspace == study
    assert (run.config.name, run.config.rounds, run.workspace) == ("flames", TOY["rounds"], study)
