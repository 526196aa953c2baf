"""Rounds without waiting with real training: equal to rounds in step, and resumed to the same bits."""

import pytest

from flames_cli.fed.events import ModalityDone, ReportReceived
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import modality_folder, run_folder
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import federate_config

SMALLEST = {"model_options": {"base_channels": 2, "depth": 1}}
SLOW = {**SMALLEST, "asynchronous": True, "slow": {"brats-2": 5.0}, "rounds": 5}


class Stopped(Exception):
    """The run was stopped by the test."""


def final(result):
    return load_state(result.folder / "checkpoints")


def test_equally_fast_clients_give_the_bits_of_rounds_in_step(tiny, one_thread):
    root = tiny()
    step = federate(federate_config(root, run="step", **SMALLEST))
    free = federate(federate_config(root, run="free", asynchronous=True, buffer=9, jitter=0.0, **SMALLEST))
    assert_same_state(final(free), final(step))
    assert (free.final, free.chosen) == (step.final, step.chosen)
    numbers = ("received_val_dice", "trained_val_dice", "train_loss", "n_steps")
    for record, line in zip(free.records, step.records, strict=True):
        for one, other in zip(record["clients"], line["clients"], strict=True):
            assert {name: one[name] for name in numbers} == {name: other[name] for name in numbers}


def stop_at(kind, number):
    """Return a listener that stops the run at the event of this kind with this number, from 1."""
    seen = 0

    def listen(event):
        nonlocal seen
        seen += isinstance(event, kind)
        if isinstance(event, kind) and seen == number:
            raise Stopped

    return listen


def test_a_run_that_is_stopped_and_one_with_more_rounds_continue_to_the_same_bits(tiny, one_thread):
    root = tiny()
    alone = federate(federate_config(root, run="alone", **SLOW))
    stopped = federate_config(root, run="stopped", **{**SLOW, "rounds": 3})
    for kind, number in ((ReportReceived, 2), (ModalityDone, 3), (ReportReceived, 3)):
        with pytest.raises(Stopped):
            federate(stopped, stop_at(kind, number))
    federate(stopped)
    resumed = federate(federate_config(root, run="stopped", **SLOW))
    assert resumed.resumed_from == 3
    assert_same_state(final(resumed), final(alone))
    assert without_timings(resumed.records) == without_timings(alone.records)
    parts = [
        load_state(modality_folder(run_folder(root, run), "MRI").checkpoints).progress
        for run in ("alone", "stopped")
    ]
    assert parts[0].on_the_way == parts[1].on_the_way
    assert parts[0].on_the_way["brats-2"].ends > parts[0].seconds
    assert set(parts[0].newest) == {"brats-1", "brats-2"}


@pytest.mark.federated
@pytest.mark.slow
@pytest.mark.long
def test_ray_gives_what_inline_gives(tiny, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tiny()
    inline = federate(federate_config(root, run="inline", **SLOW))
    rayed = federate(federate_config(root, run="ray", engine="ray", **SLOW))
    assert_same_state(final(rayed), final(inline))
    assert without_timings(rayed.records) == without_timings(inline.records)
