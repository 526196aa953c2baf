"""A run with secure aggregation that is killed at any moment ends with the bits of one that was left alone:
the masks are others each time, and the sums are integers."""

import json

import pytest

from flames_cli.stages.own_models import with_own_models
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import RunFolder
from tests.support.asserts import without_timings
from tests.support.secure_runs import make_six
from tests.support.tiny import tiny_options

pytestmark = [pytest.mark.slow, pytest.mark.federated]

HOW = {
    "strategy": "flames",
    "secure_aggregation": True,
    "clients": ("brats-1", "brats-2", "brats-3"),
    "rounds": 3,
}

POINTS = [
    ("move", {"to": "brats-2/secure/session", "when": "after"}),  # KEYS of round 1
    ("at_step", {"round": 1, "client": "brats-1", "step": 1}),
    ("after_client", {"round": 1, "client": "brats-2"}),
    ("move", {"to": "brats-1/secure/opened.json", "when": "after"}),  # one client has opened, the others not
    (
        "move",
        {"to": "checkpoints/round-00001", "when": "before"},
    ),  # all have opened, the server has not saved
    ("half_weights", {"within": "brats-2/.round-00002.tmp"}),
    ("move", {"to": "brats-3/round-00002", "when": "after"}),
    ("after_line", {"round": 2}),
    ("move", {"to": "checkpoints/round-00003", "when": "after"}),
]


HIDDEN = ("sum-", "own_factor.", "memory.json", "state.json")
"""Starts of the names of files with keys, with what they hide, or with the checksums of these files."""


def content(workspace):
    """Return the results of a run, by path; the sessions of clients have other keys in each run."""
    run = workspace / "runs" / "one"
    files = {
        "/".join(part for part in path.relative_to(run).parts if len(part) != 16): path.read_bytes()
        for folder in ("checkpoints", "clients")
        for path in sorted((run / folder).rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.parent.name != "secure"
        if not path.name.startswith(HIDDEN)
    }
    state = with_own_models(RunFolder(run), load_state(run / "checkpoints"))
    files |= {
        f"{client}/{name}": array.tobytes()
        for client, weights in state.personal.items()
        for name, array in weights.items()
    }
    lines = (run / "rounds.jsonl").read_text().splitlines()
    files["rounds.jsonl"] = without_timings(json.loads(line) for line in lines)
    files["final-models.json"] = (run / "final-models.json").read_bytes()
    return files


@pytest.mark.long
def test_a_secure_run_killed_at_every_point_ends_as_one_left_alone(killer, tmp_path):
    for name in ("alone", "killed"):
        make_six(tmp_path / name)
    killer.federate(tmp_path / "alone", run="one", **HOW)
    how = tiny_options(tmp_path / "killed", run="one", **HOW)
    for point, at in POINTS:
        ended = killer.run("federate", how, point=point, at=at)
        assert ended.get("signal") == 9, (point, at, killer.said())
    killer.federate(tmp_path / "killed", run="one", **HOW)
    found, expected = content(tmp_path / "killed"), content(tmp_path / "alone")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
