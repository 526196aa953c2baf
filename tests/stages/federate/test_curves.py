import json

import pytest

from flames_cli.fed.events import Noted, RoundDone, Waiting
from flames_cli.stages.federate import curves as curves_module
from flames_cli.stages.federate.curves import collect_dice, collect_loss, draw_during_rounds, read_curves
from flames_cli.stages.federate.stage import federate
from flames_cli.store.runs import RunFolder, read_rounds
from tests.support.grouped import group, grouped_line
from tests.support.stages import federate_config


def record(round_, **clients):
    return {
        "round": round_,
        "clients": [{"client": name, "modality": "MRI", **n} for name, n in clients.items()],
    }


def test_curves_are_of_models_as_they_came():
    lines = [
        record(1, a={"received_val_dice": 0.1, "train_loss": 0.5}, b={}),
        record(2, a={"received_val_dice": 0.4}, b={"train_loss": 0.3}),
    ]
    assert collect_dice(lines) == {"a": [(0, 0.1), (1, 0.4)]}
    assert collect_loss(lines) == {"a": [(1, 0.5)], "b": [(2, 0.3)]}


def test_the_last_point_of_a_curve_is_of_the_final_model():
    lines = [record(1, a={"received_val_dice": 0.1})]
    assert collect_dice(lines, record(1, a={"val_dice": 0.7}, b={})) == {"a": [(0, 0.1), (1, 0.7)]}


def test_a_run_with_secure_aggregation_has_a_curve_of_each_model(tmp_path):
    run = RunFolder(tmp_path / "mine")
    clients = {"a": "MRI", "b": "MRI", "c": "MRI", "d": "MRI"}
    lines = [
        grouped_line(
            number, {"MRI": group(3, 1.0 / number, 0.2 * number, 8.0)}, clients, rejected={"d": "no report"}
        )
        for number in (1, 2)
    ]
    for number in (1, 2):
        (run.checkpoints / f"round-{number:05d}").mkdir(parents=True)
    curves = read_curves(run, federate_config(tmp_path, secure_aggregation=True), lines)
    assert curves.loss == {"model MRI": [(1, 1.0), (2, 0.5)]}
    assert curves.dice == {"model MRI": [(0, 0.2), (1, 0.4)]}
    assert (curves.bands, curves.rejected, curves.marks) == ({"model MRI": "MRI"}, [], {})


@pytest.fixture
def drawings(monkeypatch):
    """Return the names of the runs that were drawn."""
    found = []
    monkeypatch.setattr(curves_module, "draw_curves", lambda run, config, on_event: found.append(run.name))
    return found


def test_curves_are_drawn_after_each_tenth_round_but_the_last(tmp_path, drawings):
    seen, now = [], iter(range(0, 100_000, 100))
    config = federate_config(tmp_path, rounds=30)
    listen = draw_during_rounds(RunFolder(tmp_path / "mine"), config, seen.append, lambda: next(now))
    after = []
    for number in range(1, 31):
        listen(RoundDone({"round": number}))
        if drawings:
            after.append((number, drawings.pop()))
    assert after == [(10, "mine"), (20, "mine")]
    listen(Waiting(3, "b", 1.0))
    assert len(seen) == 31


def test_rounds_of_a_moment_are_not_slowed_by_drawing(tmp_path, drawings):
    now = 0.0
    config = federate_config(tmp_path, rounds=1000)
    listen = draw_during_rounds(RunFolder(tmp_path / "mine"), config, lambda event: None, lambda: now)
    for number in range(1, 101):
        now += 1.0
        listen(RoundDone({"round": number}))
    assert len(drawings) == 3


@pytest.mark.federated
def test_a_run_ends_with_its_curves_and_a_lost_picture_is_drawn_again(tiny):
    root = tiny()
    config = federate_config(root, rounds=1)
    first = federate(config)
    picture = first.folder / "rounds.png"
    drawn = picture.read_bytes()
    assert first.notes == [note for note in first.notes if "curves" not in note]
    picture.unlink()
    federate(config)
    assert picture.read_bytes() == drawn
    picture.write_bytes(b"mine")
    federate(config)
    assert picture.read_bytes() == b"mine", "a run without a new round is not drawn again"
    federate(federate_config(root, rounds=2))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.federated
def test_a_resumed_run_has_the_curves_of_all_rounds(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    config = federate_config(root, rounds=2)
    folder = federate(config).folder
    curves = read_curves(RunFolder(folder), config, read_rounds(folder / "rounds.jsonl"))
    assert curves.title == "run flames: flames, model unet"
    assert {name: [number for number, _ in points] for name, points in curves.loss.items()} == {
        name: [1, 2] for name in ("brats-1", "brats-2", "busi")
    }
    assert {name: [number for number, _ in points] for name, points in curves.dice.items()} == {
        name: [0, 1, 2] for name in curves.final
    }
    assert curves.bands == {"brats-1": "MRI", "brats-2": "MRI", "busi": "US"}
    assert curves.patients > 0


@pytest.mark.federated
def test_a_run_whose_curves_cannot_be_drawn_ends_well_and_says_why(tiny, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(curves_module, "draw_learning_curves", fail)
    events = []
    result = federate(federate_config(tiny(), rounds=1), events.append)
    assert len(result.records) == 1
    (note,) = [event.note for event in events if isinstance(event, Noted) and "curves" in event.note]
    assert note.startswith(
        "the learning curves are not drawn (MemoryError: no room); the run is not affected"
    )
    assert note in result.notes


def test_the_curves_of_a_private_run_are_means_over_clients(tmp_path):
    run = RunFolder(tmp_path / "mine")
    run.checkpoints.joinpath("round-00001").mkdir(parents=True)
    clients = {
        "a": {"train_loss": 0.5, "received_val_dice": 0.2, "n_val": 4.0, "n_val_patients": 4.0},
        "b": {"train_loss": 0.3, "received_val_dice": 0.4, "n_val": 4.0, "n_val_patients": 4.0},
    }
    lines = [record(1, **clients) | {"rejected": {"c": "late"}}, record(2, **clients)]
    run.rounds.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    private = {"strategy": "fedavg-modality", "dp_noise": 1.0, "dp_clip": 1.0}
    curves = read_curves(run, federate_config(tmp_path, **private), lines)
    assert curves.loss == {"mean of 2 clients": [(1, pytest.approx(0.4)), (2, pytest.approx(0.4))]}
    assert curves.dice == {"mean of 2 clients": [(0, pytest.approx(0.3)), (1, pytest.approx(0.3))]}
    assert (curves.rejected, curves.marks, curves.final, curves.pooled) == ((), {}, {}, ())
