"""Damaged files of a run: they are reported, never ignored, and made again where that is possible."""

import json
import shutil
from dataclasses import replace

import pytest

from flames_cli.cli.render_federation import federation_json
from flames_cli.config import EvaluateConfig, FederateConfig, PartitionConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import list_rounds
from flames_cli.store.files.locks import locked, reading_partition, writing_partition
from flames_cli.store.workspace import partition_file
from tests.support.tiny import tiny_options

pytestmark = pytest.mark.federated

FEW = "few training steps"
SCAFFOLD = {"strategy": "scaffold", "optimiser": "sgd", "run": "one"}


def go(workspace, **more):
    """Run a federation; its notes are those that its listener received, without that on few steps."""
    events = []
    result = federate(FederateConfig(**tiny_options(workspace, **{**SCAFFOLD, **more})), events.append)
    assert result.notes == [event.note for event in events if isinstance(event, Noted)]
    return replace(result, notes=[note for note in result.notes if not note.startswith(FEW)])


@pytest.fixture(scope="module")
def finished(one_thread, tiny):
    """Return the workspace of a run of three rounds, and its files after a fourth round: for reading only."""
    root = tiny()
    go(root, rounds=3)
    four = shutil.copytree(root, root.with_name(f"{root.name}-four"))
    go(four, rounds=4)
    return root, four


@pytest.fixture
def workspace(finished, tmp_path):
    """Return a copy of the run of three rounds."""
    return shutil.copytree(finished[0], tmp_path / "workspace")


@pytest.fixture
def assert_as_undamaged(finished):
    """Return assert_as_undamaged(folder): the newest checkpoint and all records are those of the undamaged
    run."""
    expected = finished[1] / "runs" / "one"

    def check(folder):
        newest = "checkpoints/round-00004"
        names = sorted(path.name for path in (expected / newest).iterdir())
        assert sorted(path.name for path in (folder / newest).iterdir()) == names
        for name in names:
            assert (folder / newest / name).read_bytes() == (expected / newest / name).read_bytes()
        assert records(folder) == records(expected)

    return check


def records(folder):
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    for record in made:
        del record["seconds"], record["rss_mb"]
        for client in record["clients"]:
            del client["seconds"]
    return made


def flip(file):
    data = bytearray(file.read_bytes())
    data[-9] ^= 4
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        (
            "checkpoints/round-00003/server-all.safetensors",
            flip,
            "the checksum of server-all.safetensors differs",
        ),
        ("checkpoints/round-00003/memory-all+control.safetensors", cut, "the checksum of memory-all+control"),
        ("checkpoints/round-00003/state.json", cut, "state.json cannot be read as JSON"),
        (
            "clients/*/busi/round-00003/control.safetensors",
            flip,
            "the state of client busi after round 3 is missing or damaged",
        ),
    ],
)
def test_a_damaged_round_is_set_aside_and_done_again(name, spoil, told, workspace, assert_as_undamaged):
    folder = workspace / "runs" / "one"
    (file,) = folder.glob(name)
    spoil(file)
    result = go(workspace, rounds=4)
    assert result.resumed_from == 2
    (note,) = result.notes
    assert note.startswith(f"the checkpoint of round-00003 is damaged ({told}")
    assert note.endswith("is set aside as round-00003.damaged; continuing after round 2")
    assert federation_json(result)["notes"] == [note]
    assert (folder / "checkpoints" / "round-00003.damaged").is_dir()
    assert_as_undamaged(folder)


def test_if_no_round_is_complete_nothing_is_changed_and_one_line_reports_it(workspace):
    folder = workspace / "runs" / "one" / "checkpoints"
    for round_ in list_rounds(folder):
        flip(folder / f"round-{round_:05d}" / "server-all.safetensors")
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        FlamesError, match=r"no checkpoint in .* is complete \(round-00003: .*pass --fresh to start"
    ):
        go(workspace, rounds=4)
    assert sorted(folder.rglob("*")) == before


def test_checkpoints_that_are_gone_do_not_cost_the_history_in_silence(workspace):
    shutil.rmtree(workspace / "runs" / "one" / "checkpoints")
    with pytest.raises(
        FlamesError, match=r"has done 3 rounds, and .* contains no checkpoint of them; copy one back"
    ):
        go(workspace, rounds=4)


def test_missing_state_of_all_clients_is_reported(workspace):
    shutil.rmtree(workspace / "runs" / "one" / "clients")
    with pytest.raises(FlamesError, match="the state of client brats-1 after round 3 is missing or damaged"):
        go(workspace, rounds=4)
    assert go(workspace, rounds=3).resumed_from == 3, "a run that is over needs none of it"


def test_an_evaluation_never_takes_another_round_for_a_damaged_one(workspace):
    flip(workspace / "runs" / "one" / "checkpoints" / "round-00003" / "server-all.safetensors")
    with pytest.raises(
        FlamesError, match=r"round-00003 is damaged \(.*run `flames federate` again, which goes"
    ):
        evaluate(EvaluateConfig(workspace=workspace, run="one", device="cpu", overlays=False))
    assert not (workspace / "evaluations" / "one").exists()


@pytest.mark.parametrize("line", [0, 1])
def test_a_damaged_line_of_the_history_is_reported_and_kept_in_a_copy(line, workspace):
    folder = workspace / "runs" / "one"
    lines = (folder / "rounds.jsonl").read_bytes().split(b"\n")
    lines[line] = b"\xff" + lines[line][20:]
    spoilt = b"\n".join(lines)
    (folder / "rounds.jsonl").write_bytes(spoilt)
    result = go(workspace, rounds=4)
    damaged, missing = result.notes
    assert damaged.endswith(
        f"is damaged in line {line + 1}; the file is kept as rounds.jsonl.damaged, and the run continues "
        "without these lines"
    )
    assert missing.endswith(f"has no line of round {line + 1}; the models have all rounds")
    assert [record["round"] for record in result.records] == [one for one in (1, 2, 3, 4) if one != line + 1]
    assert (folder / "rounds.jsonl.damaged").read_bytes() == spoilt


def test_missing_lines_of_the_history_are_reported(workspace, assert_as_undamaged):
    (workspace / "runs" / "one" / "rounds.jsonl").unlink()
    (note,) = go(workspace, rounds=4).notes
    assert note.endswith("has no line of round 1, 2, 3; the models have all rounds")


@pytest.mark.parametrize("text", ["federate = 3\n", "lr = ", "\x00"])
def test_a_damaged_configuration_is_rejected(text, workspace):
    config = workspace / "runs" / "one" / "config.toml"
    config.write_text('format = "flames-run"\nversion = 3\n' + text)
    with pytest.raises(FlamesError, match=r"config\.toml cannot be read \(.*; federate again with --fresh"):
        go(workspace, rounds=4)


@pytest.mark.parametrize("spoil", [flip, lambda file: file.unlink()])
def test_what_late_clients_start_from_is_checked(spoil, tiny, tmp_path, one_thread):
    from flames_cli.learn.models import build_model
    from flames_cli.learn.models.arrays import to_weights
    from flames_cli.store.weights import write_safetensors

    root, weights = tiny(), tmp_path / "own.safetensors"
    write_safetensors(weights, to_weights(build_model("unet", seed=5, base_channels=2, depth=1)))
    how = {"strategy": "fedavg", "optimiser": "adam", "encoder_weights": str(weights)}
    go(root, rounds=1, **how)
    assert go(root, rounds=2, **how).resumed_from == 1
    spoil(root / "runs" / "one" / "initial.safetensors")
    with pytest.raises(FlamesError, match=r"initial\.safetensors is missing or damaged .*copy it back"):
        go(root, rounds=3, **how)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_second_process_at_one_run_changes_nothing(fresh, workspace):
    folder = workspace / "runs" / "one"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with locked(folder), pytest.raises(FlamesError, match="another process runs 'one'; wait for its end"):
        go(workspace, rounds=4, fresh=fresh)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_shards_are_not_replaced_while_a_run_reads_them(workspace):
    before = partition_file(workspace).read_bytes()
    again = PartitionConfig(workspace=workspace, overwrite=True, seed=1)
    with (
        reading_partition(workspace, "default"),
        pytest.raises(FlamesError, match="another command is reading or writing"),
    ):
        partition(again)
    assert partition_file(workspace).read_bytes() == before
    with (
        writing_partition(workspace, "default"),
        pytest.raises(FlamesError, match="`flames partition` is writing"),
    ):
        go(workspace, rounds=4)


def test_a_data_set_preprocessed_again_while_it_is_divided_is_noticed(workspace):
    file = workspace / "preprocessed" / "busi.h5"

    def replace(task, done, total):
        shutil.copyfile(file, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    before = partition_file(workspace).read_bytes()
    with pytest.raises(
        FlamesError, match="was preprocessed again while it was divided; run `flames partition`"
    ):
        partition(PartitionConfig(workspace=workspace, overwrite=True, split={"brats": 2}), replace)
    assert partition_file(workspace).read_bytes() == before
