"""Trackers of a federation: fed by its events, never in its way."""

import threading

import pytest

from flames_cli.config import FederateConfig
from flames_cli.fed.events import Noted
from flames_cli.stages.federate import tracking
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.planning import make_plan
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.federate.tracking import describe_run, rates_of
from flames_cli.store.runs import RunFolder, read_rounds, truncate_rounds
from flames_cli.trackers import TRACKERS
from flames_cli.trackers.figures import round_figures
from tests.support.stages import federate_config
from tests.support.tracked import READERS


class Recorder:
    """A tracker that stores what it gets; it may fail or hang."""

    def __init__(self):
        self.calls = []
        self.stored = {}
        self.fails_at = self.hangs_at = None

    def start(self, run):
        self.calls.append(("start", run.name))
        return max(self.stored, default=0)

    def round(self, number, figures):
        if number == self.hangs_at:
            threading.Event().wait(60)
        if number == self.fails_at:
            raise ConnectionError("http://me:secret@server/api is away")
        assert number not in self.stored
        self.stored[number] = dict(figures)
        self.calls.append(("round", number))

    def final(self, number, figures):
        self.calls.append(("final", number, figures["chosen/round"]))

    def finish(self, status):
        self.calls.append(("finish", status))


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(tracking, "make_tracker", lambda name: made)
    return made


def notes_of(events):
    return [event.note for event in events if isinstance(event, Noted) and "--track" in event.note]


@pytest.mark.federated
def test_a_tracker_gets_every_round_once_also_of_a_run_that_continues(tiny, recorder):
    root = tiny()
    folder = federate(federate_config(root, rounds=1, track=("csv",))).folder
    assert recorder.calls == [("start", "flames"), ("round", 1), ("final", 1, 1.0), ("finish", "finished")]
    recorder.calls.clear()
    federate(federate_config(root, rounds=3, track=("csv",)))
    assert recorder.calls == [
        ("start", "flames"),
        ("round", 2),
        ("round", 3),
        ("final", 3, 3.0),
        ("finish", "finished"),
    ]
    config = federate_config(root, rounds=3)
    for record in read_rounds(folder / "rounds.jsonl"):
        figures = round_figures(record, rates_of(config, record["round"]), private=False)
        assert recorder.stored[record["round"]] == figures


@pytest.mark.federated
def test_a_finished_run_is_tracked_afterwards_and_a_lost_round_is_not_doubled(tiny, recorder):
    root = tiny()
    folder = federate(federate_config(root, rounds=2)).folder
    assert recorder.calls == []
    federate(federate_config(root, rounds=2, track=("csv",)))
    assert sorted(recorder.stored) == [1, 2]
    (folder / "checkpoints" / "round-00002" / "state.json").write_text("{}")
    truncate_rounds(folder / "rounds.jsonl", 1)
    federate(federate_config(root, rounds=2, track=("csv",)))
    assert sorted(recorder.stored) == [1, 2]
    assert len(read_rounds(folder / "rounds.jsonl")) == 2


@pytest.mark.federated
def test_a_tracker_that_fails_is_noted_once_and_the_run_is_the_same(tiny, recorder):
    plain, broken = tiny(), tiny()
    recorder.fails_at = 1
    events = []
    result = federate(federate_config(broken, rounds=2, track=("csv",)), events.append)
    (note,) = notes_of(events)
    assert note == (
        "--track csv has stopped (ConnectionError: http://server/api is away); the run is not affected, and "
        "the same command sends the missing rounds"
    )
    assert note in result.notes
    assert recorder.calls == [("start", "flames")]
    other = federate(federate_config(plain, rounds=2))
    weights = [
        {path.name: path.read_bytes() for path in sorted(one.folder.glob("checkpoints/*/*.safetensors"))}
        for one in (result, other)
    ]
    assert weights[0] == weights[1] != {}


@pytest.mark.federated
def test_a_tracker_that_does_not_answer_is_not_waited_for_longer_than_its_time(tiny, recorder, monkeypatch):
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.05)
    recorder.hangs_at = 1
    events = []
    assert len(federate(federate_config(tiny(), rounds=2, track=("csv",)), events.append).records) == 2
    (note,) = notes_of(events)
    assert "it has not ended after 0.05 s" in note


@pytest.mark.federated
def test_a_tracker_learns_that_the_run_was_interrupted(tiny, recorder):
    def interrupt(event):
        if type(event).__name__ == "RoundDone":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        federate(federate_config(tiny(), rounds=2, track=("csv",)), interrupt)
    assert recorder.calls[-1] == ("finish", "interrupted")


@pytest.mark.federated
def test_all_trackers_have_the_same_figures_of_a_real_run(tiny, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tiny()
    names = [name for name in TRACKERS if name != "wandb"]
    for name in names:
        pytest.importorskip(name)
    folder = federate(federate_config(root, rounds=2, track=names)).folder
    found = {name: READERS[name](folder, root) for name in names}
    assert {number: sorted(figures) for number, figures in found["csv"].items()}.keys() == {1, 2}
    for name in names:
        assert found[name].keys() == found["csv"].keys()
        for number, figures in found["csv"].items():
            assert found[name][number].keys() == figures.keys()
            for key, values in figures.items():
                assert found[name][number][key] == pytest.approx(values, rel=1e-6), key


@pytest.mark.federated
def test_every_run_of_a_family_is_tracked_with_its_family(tiny, monkeypatch):
    seen = []

    class Facts(Recorder):
        def start(self, run):
            seen.append((run.name, run.family, run.parameters["seed"]))
            return 0

    monkeypatch.setattr(tracking, "make_tracker", lambda name: Facts())
    from contextlib import nullcontext

    config = federate_config(tiny(), rounds=1, seeds=(0, 1), track=("csv",))
    list(federate_all(config, lambda title: nullcontext(lambda event: None)))
    assert seen == [("flames-seed-0", "flames", 0), ("flames-seed-1", "flames", 1)]


@pytest.mark.federated
def test_parameters_have_options_and_facts_and_no_token_and_no_path(tiny):
    root = tiny()
    config = federate_config(root, rounds=1, lr_by_modality={"US": 0.5}, track=("csv",))
    run = RunFolder(federate(config).folder)
    found = describe_run(run, config.model_copy(update={"encoder_weights": "/home/anna/weights.pth"}))
    parameters = found.parameters
    assert parameters["lr_by_modality.US"] == 0.5
    assert parameters["model_options.base_channels"] == 4
    assert parameters["encoder_weights"] == "weights.pth"
    assert parameters["size"] == 32
    token = run.config.read_text().partition('token = "')[2][:16]
    assert token
    assert token not in str(found)


def test_learning_rates_are_those_of_the_plan(tmp_path):
    config = federate_config(
        tmp_path,
        lr_by_modality={"US": 0.5, "b": 0.25},
        lr_schedule="cosine",
        rounds=4,
        warmup=1,
        encoder_weights="none",
    )
    plan = make_plan(config, {"size": 32, "channels": 1}, None)
    for round_ in range(1, 5):
        rate = rates_of(config, round_)
        for client, modality in (("a", "MRI"), ("b", "US"), ("c", "US")):
            assert rate(client, modality) == plan.training_of(client, modality, round_).lr


def test_a_tracker_named_twice_is_used_once():
    assert FederateConfig(track=("csv", "csv")).track == ("csv",)


def test_the_option_takes_every_tracker_once():
    assert FederateConfig(track=(*TRACKERS, "csv")).track == tuple(TRACKERS)
