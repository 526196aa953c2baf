"""A federation that is killed at any moment and run again ends like one that was not killed: bit for bit."""

import json
import random
from pathlib import Path

import pytest

from tests.support.asserts import without_timings
from tests.support.tiny import tiny_options

pytestmark = [pytest.mark.slow, pytest.mark.federated]

STRATEGIES = {
    "fedavg": {"strategy": "fedavg", "fraction": 0.5, "ema": 0.5},
    "flames": {"strategy": "flames"},
    "adaptive": {"strategy": "flames-adaptive", "wire_dtype": "int8"},
    "by modality": {"strategy": "flames", "rounds_by": "modality"},
    "scaffold": {"strategy": "scaffold", "optimiser": "sgd"},
    "swarm": {"engine": "swarm", "absent": 0.4},
    "asynchronous": {"asynchronous": True, "slow": {"brats-2": 5.0}, "rounds": 6},
    "longer": {"strategy": "scaffold", "optimiser": "sgd", "rounds": 5},
}

BEGINNING = [
    ("move", {"to": "runs/one", "when": "before"}),
    ("at_step", {"round": 1, "client": "brats-1", "step": 1}),
    ("after_client", {"round": 1, "client": "brats-1"}),
    ("half_line", {"round": 1}),
    ("after_line", {"round": 1}),
    ("half_weights", {"within": "checkpoints/.round-00001.tmp"}),
]
"""Points before there is a checkpoint."""

MIDDLE = [
    ("move", {"to": "checkpoints/round-00001", "when": "after"}),
    ("at_step", {"round": 2, "client": "busi", "step": 1}),
    ("after_line", {"round": 2}),
    ("move", {"to": "rounds.jsonl", "when": "before"}),  # the line without its checkpoint is being deleted
    ("half_weights", {"within": "checkpoints/.round-00002.tmp"}),
    ("before_line", {"round": 2}),
    ("move", {"to": "checkpoints/round-00002", "when": "before"}),
    ("after_round", {"round": 2}),
    ("move", {"to": "checkpoints/round-00003", "when": "after"}),  # the first round still exists
    ("half_removed", {"name": "checkpoints/.round-00001"}),
    ("half_line", {"round": 4}),
    ("after_line", {"round": 4}),  # the line shows that round 2 or 3 is the best, its checkpoint is missing
]

FINAL = [
    ("move", {"to": "final-models.json", "when": "before"}),
    ("move", {"to": "final-models.json", "when": "after"}),
]
"""Points in the pass after the last round."""

BEST = [
    ("after_round", {"round": 4}),
    ("half_weights", {"within": "checkpoints/round-00002/"}),
    ("move", {"to": "checkpoints/round-00002/state.json", "when": "before"}),
    ("move", {"to": "checkpoints/round-00002/state.json", "when": "after"}),
    ("move", {"to": "final-models.json", "when": "after"}),
    ("half_weights", {"within": "checkpoints/round-00004/"}),
    ("move", {"to": "checkpoints/round-00004/state.json", "when": "before"}),
]
"""Points between the pass of the last round, that of the best one, which is an earlier one, and the end."""

BY_MODALITY = [
    ("ahead", {"modality": "US", "round": 3, "held": [2, 3]}),
    ("half_weights", {"within": "modalities/MRI/checkpoints/.round-00001.tmp"}),
    ("move", {"to": "modalities/MRI/checkpoints/round-00001", "when": "before"}),
    ("move", {"to": "one/checkpoints/.round-00001.tmp/state.json", "when": "before"}),
    ("move", {"to": "one/checkpoints/round-00001", "when": "before"}),
    ("move", {"to": "one/checkpoints/round-00001", "when": "after"}),
    ("half_line", {"round": 2}),
    ("move", {"to": "one/checkpoints/round-00002", "when": "after"}),
    ("half_removed", {"name": "modalities/US/checkpoints/.round-00001"}),
    ("half_weights", {"within": "modalities/US/checkpoints/.round-00004.tmp"}),
    ("move", {"to": "one/checkpoints/round-00004", "when": "before"}),
]
"""Points of a run by modality, whose US is ahead of all rounds of MRI from the first point on."""

MEMORY = [
    ("half_weights", {"within": "brats-1/.round-00001.tmp"}),
    ("half_weights", {"within": "brats-2/.round-00002.tmp"}),
    ("move", {"to": "busi/round-00002", "when": "before"}),
    ("move", {"to": "busi/round-00002", "when": "after"}),
    ("half_removed", {"name": "brats-1/.round-00001"}),
]
"""Points in the client state, of which the newest four rounds are stored."""

EVALUATION = [
    ("scored", {"task": "evaluate client_test", "done": 1}),
    ("move", {"to": "clients.csv", "when": "before"}),
    ("move", {"to": "cases.csv", "when": "after"}),
    ("move", {"to": "evaluation.json", "when": "before"}),
    ("move", {"to": "evaluations/one", "when": "before"}),
]


@pytest.fixture(scope="module")
def left_alone(killer, tiny):
    """Return left_alone("fedavg"): the workspace of that run, never stopped, and the seconds that it took."""
    made = {}

    def get(strategy):
        if strategy not in made:
            root = tiny()
            made[strategy] = root, killer.federate(root, run="one", **STRATEGIES[strategy])
        return made[strategy]

    return get


def content(workspace):
    """Return the content of a run, except for times and the token: by path, bytes or records."""
    run = workspace / "runs" / "one"
    files = {
        str(path.relative_to(run)): path.read_bytes()
        for folder in ("checkpoints", "clients", *modality_checkpoints(run))
        for path in sorted((run / folder).rglob("*"))
        if path.is_file() and path.suffix not in (".png", ".lock", ".jsonl")
    }
    files = {
        "/".join(part for part in name.split("/") if len(part) != 16): data for name, data in files.items()
    }
    config = (run / "config.toml").read_text().splitlines()
    files["final-models.json"] = (run / "final-models.json").read_bytes()
    files["config.toml"] = [line for line in config if not line.startswith("token")]
    files["rounds.jsonl"] = without_timings(
        json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()
    )
    return files | {"names": sorted(path.name for path in run.iterdir())}


def modality_checkpoints(run):
    """Return the folders with the checkpoints of single modalities."""
    return [str(path.relative_to(run)) for path in sorted(run.glob("modalities/*/checkpoints"))]


def assert_same_as(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def die_at(killer, stage, options, points):
    for point, at in points:
        ended = killer.run(stage, options, point=point, at=at)
        assert ended.get("signal") == 9, (point, at, killer.said())


@pytest.mark.parametrize("strategy", ["flames", "scaffold"])
def test_a_run_killed_at_every_point_ends_as_one_left_alone(strategy, killer, tiny, left_alone):
    root = tiny()
    how = tiny_options(root, run="one", **STRATEGIES[strategy])
    die_at(killer, "federate", how, BEGINNING + MIDDLE + FINAL)
    killer.federate(root, run="one", **STRATEGIES[strategy])
    assert_same_as(content(root), content(left_alone(strategy)[0]))
    notes = [line for line in killer.said().splitlines() if line.startswith("noted")]
    assert all("few training steps" in note for note in notes), "a kill damages nothing"


@pytest.mark.long
def test_modalities_killed_at_every_point_end_as_if_left_alone_and_as_in_step(killer, tiny, left_alone):
    root, how = tiny(), STRATEGIES["by modality"]
    die_at(killer, "federate", tiny_options(root, run="one", **how), BY_MODALITY + FINAL)
    killer.federate(root, run="one", **how)
    found = content(root)
    assert_same_as(found, content(left_alone("by modality")[0]))
    step = content(left_alone("flames")[0])
    assert {name: found[name] for name in step if name not in ("config.toml", "names")} == {
        name: one for name, one in step.items() if name not in ("config.toml", "names")
    }


def test_a_run_killed_between_the_passes_of_its_last_and_its_best_round_ends_the_same(
    killer, tiny, left_alone
):
    root, how = tiny(), STRATEGIES["flames"]
    alone = content(left_alone("flames")[0])
    assert [one["round"] for one in json.loads(alone["final-models.json"])["earlier"]] == [2]
    assert {name for name in alone if "round-00002/statistics" in name}, "the best round has statistics"
    die_at(killer, "federate", tiny_options(root, run="one", **how), BEST)
    killer.federate(root, run="one", **how)
    assert_same_as(content(root), alone)


def test_clients_killed_while_they_save_state_continue_from_earlier_state(killer, tiny, left_alone):
    root = tiny()
    how = STRATEGIES["longer"]
    die_at(killer, "federate", tiny_options(root, run="one", **how), MEMORY)
    killer.federate(root, run="one", **how)
    assert_same_as(content(root), content(left_alone("longer")[0]))


def test_a_fresh_run_killed_while_it_takes_the_place_of_the_old_one_loses_neither(killer, tiny, left_alone):
    root, how = tiny(), STRATEGIES["scaffold"]
    killer.run("federate", tiny_options(root, run="one", strategy="fedavg", rounds=2))
    runs = root / "runs"
    before = files_of(runs / "one")
    fresh = tiny_options(root, run="one", fresh=True, **how)
    die_at(killer, "federate", fresh, [("move", {"to": "runs/one", "when": "before"})])
    assert not (runs / "one").exists()
    killer.federate(root, run="one", **how)
    assert_same_as(content(root), content(left_alone("scaffold")[0]))
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["one", "one-old-1"]
    assert files_of(runs / "one-old-1") == before


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "by modality"])
def test_a_run_killed_at_random_moments_ends_as_one_left_alone(strategy, killer, tiny, left_alone):
    alone, seconds = left_alone(strategy)
    root, draw = tiny(), random.Random(f"kills of {strategy}")
    for _ in range(4):
        killer.run(
            "federate",
            tiny_options(root, run="one", **STRATEGIES[strategy]),
            after=draw.uniform(0, 0.7 * seconds),
        )
    killer.federate(root, run="one", **STRATEGIES[strategy])
    assert_same_as(content(root), content(alone))


def test_an_evaluation_killed_at_any_point_and_run_again_gives_the_same(killer, tiny, left_alone):
    alone, _ = left_alone("flames")
    results = []
    for points in ([], EVALUATION):
        root = tiny()
        copy_run(alone, root)
        how = {"workspace": root, "run": "one", "device": "cpu", "overlays": False}
        die_at(killer, "evaluate", how, points)
        assert killer.run("evaluate", how).get("exit") == 0, killer.said()
        assert [path.name for path in (root / "evaluations").iterdir() if path.is_dir()] == ["one"]
        folder = root / "evaluations" / "one"
        results.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert_same_as(*results)
    assert {"evaluation.json", "cases.csv", "predictions.h5"} <= results[0].keys()


def copy_run(source: Path, target: Path) -> None:
    for path in (source / "runs").rglob("*"):
        if path.is_file():
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
