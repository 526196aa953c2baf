"""Federations from Python code: interrupted, in threads and notebooks, with callbacks, repeated."""

import asyncio
import random
import shutil
import signal
import threading
import warnings
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import flames_cli as flames
from flames_cli.store.checkpoint import load_state
from tests.api.conftest import TOY


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """A workspace that the test may change, without runs."""
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("runs", "evaluations"))
    return tmp_path / "study"


def weights(workspace: Path, run: str = "flames") -> dict[str, bytes]:
    state = load_state(workspace / "runs" / run / "checkpoints", TOY["rounds"])
    return {
        f"{group}/{name}": array.tobytes()
        for group, model in state.server.items()
        for name, array in model.items()
    }


def test_a_run_has_flat_records_of_rounds_and_clients(study):
    run = flames.open_run("flames", study)
    assert [record.round for record in run.rounds] == [1, 2]
    assert [(one.round, one.client, one.accepted) for one in run.client_rounds] == [
        (number, client, True) for number in (1, 2) for client in ("brats-1", "brats-2", "busi")
    ]
    assert all(record.train_loss is not None and record.val_dice is not None for record in run.rounds)
    assert [(one.name, one.train_images) for one in run.clients] == [
        ("brats-1", 5),
        ("brats-2", 5),
        ("busi", 7),
    ]
    assert run.validation[-1].label == "all clients"
    assert run.validation[-1].last == run.rounds[-1].val_dice == run.validation_dice
    with pytest.raises(FrozenInstanceError):
        run.name = "other"


def test_the_options_of_a_run_name_no_code(study, tmp_path):
    """They may be handed to `federate`, which uses files that the user names."""
    config = tmp_path / "runs" / "flames" / "config.toml"
    shutil.copytree(study / "runs" / "flames", config.parent)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[federate]", '[federate]\nplugins = ["own.py"]'), encoding="utf-8")
    with pytest.raises(flames.FlamesError, match="names files of plug-ins, which no file of a run may do"):
        flames.open_run("flames", tmp_path)


def test_pandas_takes_the_records(study):
    import pandas

    family = flames.open_family("seeds", study)
    curves = pandas.DataFrame(family.rounds).pivot(index="round", columns="run", values="train_loss")
    assert curves.shape == (2, 2)
    assert curves.notna().all().all()
    cases = pandas.DataFrame(flames.open_evaluation("flames", study).cases)
    assert cases.groupby("model")["dice"].count().to_dict()["busi"] == 2
    assert pandas.DataFrame(family.runs[0].validation).set_index("label")["images"]["all clients"] == 3


def test_the_same_call_returns_a_finished_run_and_adds_rounds(copy):
    made = flames.federate(workspace=copy, run="flames", **TOY)
    again = flames.federate(workspace=copy, run="flames", **TOY)
    assert (
        replace(again, resumed_from=0, notes=[]) == replace(made, notes=[]) == flames.open_run("flames", copy)
    )
    assert again.resumed_from == 2
    more = flames.federate(made.config, rounds=3)
    assert (more.resumed_from, len(more.rounds), more.is_finished) == (2, 3, True)
    last = flames.federate(resume="flames", workspace=copy, rounds=4)
    assert (last.resumed_from, len(last.rounds), last.config.lr) == (3, 4, TOY["lr"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_continues_to_the_same_weights(error, copy, study):
    def interrupt(event: flames.Event) -> None:
        if event.kind == "train" and event.round == 2:
            raise error("now")

    with pytest.raises(error, match="now"):
        flames.federate(workspace=copy, run="flames", progress=interrupt, **TOY)
    stopped = flames.open_run("flames", copy)
    assert [record.rejected for record in stopped.rounds] == [0] * len(stopped.rounds)
    run = flames.federate(workspace=copy, run="flames", **TOY)
    assert run.resumed_from == len(stopped.rounds) >= 1
    assert run.is_finished
    assert weights(copy) == weights(study)


def test_a_call_prints_nothing_and_leaves_the_process_as_it_was(copy, capfd):
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    backend, parameters, filters = matplotlib.get_backend(), dict(matplotlib.rcParams), [*warnings.filters]

    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    events: list[flames.Event] = []
    run = flames.federate(workspace=copy, run="flames", progress=events.append, **TOY)
    flames.evaluate(run=run.name, workspace=copy)
    flames.write_report(run=run.name, workspace=copy)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert states() == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (matplotlib.get_backend(), dict(matplotlib.rcParams)) == (backend, parameters)
    added = [one for one in warnings.filters if one not in filters]
    assert [(one[0], one[3].pattern) for one in added] in ([], [("ignore", "PIL|pydicom|nibabel")])
    check_events(events)


def check_events(events: list[flames.Event]) -> None:
    """Progress counts training steps and rounds."""
    rounds = [event for event in events if event.kind == "round"]
    assert [(event.done, event.total, event.task) for event in rounds] == [(1, 2, "flames"), (2, 2, "flames")]
    assert all(event.record and event.record.train_loss for event in rounds)
    steps = {(event.task, event.round, event.done) for event in events if event.kind == "train"}
    assert {("busi", 1, 1), ("busi", 1, 2), ("busi", 2, 2), ("brats-1", 2, 1)} <= steps
    assert all(event.text for event in events if event.kind == "note")


def test_a_run_works_in_a_thread_whose_event_loop_runs_as_in_a_notebook(copy, study):
    made: list[flames.Run] = []

    async def cell() -> None:
        made.append(flames.federate(workspace=copy, run="flames", **TOY))

    thread = threading.Thread(target=lambda: asyncio.run(cell()))
    thread.start()
    thread.join()
    assert made[0].is_finished
    assert weights(copy) == weights(study)


def test_a_family_continues_and_lists_what_is_unfinished(copy, study):
    def interrupt(event: flames.Event) -> None:
        if event.kind == "round" and event.task.startswith("seeds-seed-1"):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        flames.federate_family(workspace=copy, run="seeds", seeds=(0, 1), progress=interrupt, **TOY)
    assert flames.open_family("seeds", copy).unfinished == ["seeds-seed-1"]
    family = flames.federate_family(resume="seeds", workspace=copy)
    assert family.unfinished == []
    assert family.rounds[-1].val_dice == flames.open_family("seeds", study).rounds[-1].val_dice


def test_one_run_and_several_runs_are_two_functions(study):
    with pytest.raises(flames.FlamesError, match="call federate_family"):
        flames.federate(seeds=[0, 1], workspace=study)
    with pytest.raises(flames.FlamesError, match="call federate_family"):
        flames.federate(resume="seeds", workspace=study)
    with pytest.raises(flames.FlamesError, match="neither seeds nor folds"):
        flames.federate_family(workspace=study)
    with pytest.raises(flames.FlamesError, match="'seeds' is 2 runs"):
        flames.open_run("seeds", study)
    with pytest.raises(flames.MissingArtifact, match="no family 'flames'"):
        flames.open_family("flames", study)
    for unfit in ({"config": flames.FederateConfig()}, {"fresh": True}):
        with pytest.raises(flames.FlamesError, match="with resume='flames'"):
            flames.federate(resume="flames", workspace=study, **unfit)
