"""Rounds by modality with all their files: the same as in step, stopped, damaged and continued."""

import json
import shutil

import pytest

from flames_cli.cli.render_federation import federation_json
from flames_cli.config import FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.engines.inline import InlineGrid
from flames_cli.fed.events import ClientAsked, ModalityDone, StepDone
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import list_rounds
from flames_cli.store.runs import RunFolder, list_modalities, modality_folder
from tests.support.asserts import without_timings
from tests.support.tiny import tiny_options

pytestmark = pytest.mark.federated

MRI_NODES, US_NODES = (2, 3), (4,)
ROUNDS = 3


def go(root, on_event=lambda event: None, **options):
    options = {"rounds": ROUNDS, "rounds_by": "modality", "strategy": "flames", "run": "one", **options}
    return federate(FederateConfig(**tiny_options(root, **options)), on_event)


def lines(folder):
    return without_timings(json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines())


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("checkpoints", "modalities")
        for path in (folder / part).rglob("*")
        if path.suffix in (".safetensors", ".json") and ".damaged" not in str(path)
    }


def checkpoints_of(folder):
    return {name: one for name, one in files_of(folder).items() if name.startswith("checkpoints")}


def hold_back(monkeypatch, nodes):
    """Keep the trained reports of these nodes back for ever."""
    pull = InlineGrid.pull_messages

    def pull_others(self, numbers):
        sent = {number: self._waiting[number].metadata for number in numbers if number in self._waiting}
        held = {
            number for number, one in sent.items() if one.dst_node_id in nodes and "train" in one.message_type
        }
        return pull(self, [number for number in sent if number not in held])

    monkeypatch.setattr(InlineGrid, "pull_messages", pull_others)


def stop_after(modality, round_):
    """Return a listener that stops the run after a round of a modality."""

    def listen(event):
        if isinstance(event, ModalityDone) and (event.modality, event.record["round"]) == (modality, round_):
            raise KeyboardInterrupt

    return listen


def trained(events):
    """Return the client and the round of all trainings, without repeats."""
    return sorted({(event.client, event.round) for event in events if isinstance(event, StepDone)})


@pytest.fixture(scope="module")
def finished(one_thread, tiny):
    """Return the workspace of a finished run: for reading only."""
    root = tiny()
    go(root)
    return root


@pytest.fixture(scope="module")
def ahead(one_thread, tiny):
    """Return the workspace of a run that was stopped while US was ahead of MRI by two rounds."""
    root = tiny()
    with pytest.MonkeyPatch.context() as patch:
        with pytest.raises(KeyboardInterrupt):
            go(root, stop_after("MRI", 1))
        hold_back(patch, MRI_NODES)
        with pytest.raises(KeyboardInterrupt):
            go(root, stop_after("US", 3))
    return root


@pytest.fixture
def copy(tmp_path):
    return lambda root: shutil.copytree(root, tmp_path / "workspace")


@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality"])
def test_checkpoints_and_lines_are_those_in_step_bit_for_bit(strategy, finished, tiny, one_thread):
    root = finished
    if strategy != "flames":
        root = tiny()
        go(root, strategy=strategy)
    step = tiny()
    go(step, strategy=strategy, rounds_by="all")
    own, other = root / "runs" / "one", step / "runs" / "one"
    assert checkpoints_of(own) == checkpoints_of(other)
    assert lines(own) == lines(other)
    for name in ("final-models.json", "clients.json"):
        assert (own / name).read_bytes() == (other / name).read_bytes()


def test_no_file_of_weights_is_written_twice(finished):
    run = RunFolder(finished / "runs" / "one")
    assert list_modalities(run) == ["MRI", "US"]
    for modality in ("MRI", "US"):
        folder = modality_folder(run, modality)
        assert list_rounds(folder.checkpoints) == [2, 3]
        for file in folder.checkpoints.rglob("*.safetensors"):
            same = run.checkpoints / file.parent.name / file.name
            assert same.samefile(file)


def test_a_disk_without_links_gets_copies(tiny, finished, monkeypatch, one_thread):
    def fail(self, target):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.hardlink_to", fail)
    root = tiny()
    go(root)
    assert files_of(root / "runs" / "one") == files_of(finished / "runs" / "one")


def test_a_modality_that_is_ahead_keeps_its_rounds_and_trains_none_of_them_again(ahead, copy, finished):
    root, events = copy(ahead), []
    folder = RunFolder(root / "runs" / "one")
    us = modality_folder(folder, "US")
    assert list_rounds(folder.checkpoints) in ([], [1])
    assert max(list_rounds(us.checkpoints)) >= 2
    done = max(list_rounds(us.checkpoints))
    go(root, events.append)
    us_rounds = [round_ for client, round_ in trained(events) if client == "busi"]
    assert us_rounds == list(range(done + 1, ROUNDS + 1))
    assert files_of(folder.path) == files_of(finished / "runs" / "one")
    assert lines(folder.path) == lines(finished / "runs" / "one")


def flip(file):
    data = bytearray(file.read_bytes())
    data[-9] ^= 4
    file.unlink()  # not the other name of the file
    file.write_bytes(data)


def test_a_modality_with_a_damaged_checkpoint_repeats_only_its_own_rounds(ahead, copy, finished):
    root, events = copy(ahead), []
    folder = RunFolder(root / "runs" / "one")
    us = modality_folder(folder, "US").checkpoints
    flip(us / "round-00002" / "server-US.safetensors")
    result = go(root, events.append)
    (note,) = [one for one in result.notes if "damaged" in one]
    assert note.startswith("the checkpoint of round-00002 of US is damaged (the checksum of server-US")
    assert note.endswith("is set aside as round-00002.damaged; US continues after round 1")
    assert note in federation_json(result)["notes"]
    assert ("busi", 2) in trained(events)
    assert files_of(folder.path) == files_of(finished / "runs" / "one")


def test_a_modality_whose_last_checkpoint_is_damaged_continues_from_that_of_all(finished, copy):
    root, events = copy(finished), []
    folder = RunFolder(root / "runs" / "one")
    flip(modality_folder(folder, "MRI").checkpoints / "round-00003" / "client-brats-1.safetensors")
    result = go(root, events.append, rounds=4)
    assert [one for one in result.notes if "MRI continues after round 3" in one]
    assert {round_ for _, round_ in trained(events)} == {4}


def test_a_damaged_file_with_two_names_costs_its_modality_alone_a_round(finished, copy):
    root, events = copy(finished), []
    folder = RunFolder(root / "runs" / "one")
    for of in (folder, modality_folder(folder, "MRI")):
        flip(of.checkpoints / "round-00003" / "client-brats-1.safetensors")
    assert go(root, events.append).resumed_from == 2
    assert trained(events) == [("brats-1", 3), ("brats-2", 3)]
    assert files_of(folder.path) == files_of(finished / "runs" / "one")


def test_a_damaged_round_of_all_is_combined_again_without_training(finished, copy):
    root, events = copy(finished), []
    folder = root / "runs" / "one"
    index = folder / "checkpoints" / "round-00003" / "state.json"
    index.write_text(index.read_text()[:100])
    result = go(root, events.append)
    assert result.resumed_from == 2
    assert trained(events) == []
    assert files_of(folder) == files_of(finished / "runs" / "one")
    assert lines(folder) == lines(finished / "runs" / "one")


@pytest.mark.parametrize("gone", ["modalities/MRI/checkpoints", "modalities/MRI", "modalities"])
def test_a_modality_whose_folder_is_gone_continues_from_the_last_round_of_all(gone, finished, copy, tmp_path):
    root, events = copy(finished), []
    intact = shutil.copytree(finished, tmp_path / "intact")
    shutil.rmtree(root / "runs" / "one" / gone)
    go(root, events.append, rounds=4)
    go(intact, rounds=4)
    assert {round_ for _, round_ in trained(events)} == {4}
    assert files_of(root / "runs" / "one") == files_of(intact / "runs" / "one")


def test_rounds_of_a_modality_that_are_lost_end_the_command_in_words(ahead, copy):
    root = copy(ahead)
    run = RunFolder(root / "runs" / "one")
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.rounds.unlink(missing_ok=True)
    for file in modality_folder(run, "US").checkpoints.rglob("state.json"):
        file.write_text("{")
    with pytest.raises(FlamesError, match=r"US of run 'one' has done \d rounds, and no checkpoint .*--fresh"):
        go(root)


def test_a_run_with_rounds_of_one_modality_alone_is_renamed_by_fresh_not_deleted(ahead, copy):
    root = copy(ahead)
    shutil.rmtree(root / "runs" / "one" / "checkpoints", ignore_errors=True)
    (root / "runs" / "one" / "rounds.jsonl").unlink(missing_ok=True)
    go(root, fresh=True, rounds=1)
    assert (root / "runs" / "one-old-1" / "modalities" / "US" / "rounds.jsonl").is_file()


@pytest.mark.parametrize("before", ["all", "modality"])
def test_a_run_continues_only_in_the_way_it_was_made(before, tiny, one_thread):
    root = tiny()
    go(root, rounds=1, rounds_by=before)
    now = {"all": "modality", "modality": "all"}[before]
    with pytest.raises(FlamesError, match=rf"rounds_by '{before}' → '{now}'"):
        go(root, rounds=2, rounds_by=now)


@pytest.mark.parametrize("strategy", ["fedavg", "fedgs", "scaffold"])
def test_strategies_with_one_model_for_all_modalities_are_refused_by_name(strategy, finished):
    with pytest.raises(FlamesError, match=rf"strategy {strategy} trains one model for all .* use flames"):
        go(finished, strategy=strategy, run="other", optimiser="sgd")
    assert not (finished / "runs" / "other").exists()


def test_the_privacy_account_is_that_of_rounds_in_step(tiny, one_thread):
    root = tiny()
    private = {"strategy": "fedavg-modality", "dp_noise": 1.0, "dp_clip": 1.0, "rounds": 2}
    step, own = go(root, rounds_by="all", run="step", **private), go(root, **private)
    assert [one["epsilon"] for one in own.records] == [one["epsilon"] for one in step.records]


def test_events_name_the_modality(tiny, one_thread):
    events = []
    go(tiny(), events.append, rounds=1)
    assert [event.modality for event in events if isinstance(event, ModalityDone)] == ["MRI", "US"]
    assert {event.round for event in events if isinstance(event, ClientAsked)} == {1}
