"""Continuing a run without its options, and from its own config.toml."""

import json

import pytest

from tests.support.command_line import SMALL_FEDERATION

pytestmark = [pytest.mark.federated, pytest.mark.usefixtures("one_thread")]


def finished(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def run(flames, tiny):
    """A workspace with one round of a run, and the command on it."""
    space = tiny()

    def federate(*args):
        return flames("federate", *args, "--workspace", space, "--json")

    finished(federate(*SMALL_FEDERATION, "--lr", "US=2e-3", "--rounds", 1, "--run", "first"))
    return federate, space / "runs" / "first"


def test_a_family_is_continued_with_its_own_options(flames, tiny):
    space = tiny()

    def federate(*args):
        return flames("federate", *args, "--workspace", space, "--json")

    made = finished(federate(*SMALL_FEDERATION, "--rounds", 1, "--seeds", "0,3", "--run", "mine"))
    assert (made["name"], made["seeds"]) == ("mine", [0, 3])
    assert [run["run"] for run in made["runs"]] == ["mine-seed-0", "mine-seed-3"]
    for args in (("--resume", "--rounds", 1), ("--resume", "mine", "--rounds", 2)):
        made = finished(federate(*args))
        assert [run["resumed_from"] for run in made["runs"]] == [1, 1]
    assert [len(run["rounds"]) for run in made["runs"]] == [2, 2]
    made = finished(federate("--resume", "mine-seed-3", "--rounds", 3))
    assert (made["run"], len(made["rounds"])) == ("mine-seed-3", 3)
    result = federate("--resume", "mine", "--seed", 0)
    assert result.exit_code == 2
    assert "got seed 0 and seeds 0,3" in result.stderr


def test_a_run_is_continued_with_its_own_options(run):
    federate, folder = run
    before = (folder / "config.toml").read_text(encoding="utf-8")
    made = finished(federate("--resume", "--rounds", 2))
    assert (made["run"], made["resumed_from"], len(made["rounds"])) == ("first", 1, 2)
    made = finished(federate("--resume", "first", "--rounds", 3, "--batch-size", 8))
    assert (made["run"], made["resumed_from"], len(made["rounds"])) == ("first", 2, 3)
    after = (folder / "config.toml").read_text(encoding="utf-8")
    assert after == before.replace("rounds = 1\n", "rounds = 3\n", 1)

    made = finished(federate("--config", folder / "config.toml", "--rounds", 4))
    assert (made["run"], made["resumed_from"]) == ("first", 3)
    made = finished(federate("--config", folder / "config.toml", "--run", "second", "--rounds", 1))
    assert (made["run"], made["resumed_from"]) == ("second", 0)
    first, second = (path / "config.toml" for path in (folder, folder.parent / "second"))
    options = [path.read_text(encoding="utf-8").split("[run]")[0] for path in (first, second)]
    assert options[0].replace('"first"', '"second"').replace("rounds = 4", "rounds = 1") == options[1]

    result = federate("--resume", "first", "--lr", "0.5", "--seed", 4, "--rounds", 9)
    assert result.exit_code == 2
    assert "run 'first' was made with other options (" in result.stderr
    assert "lr 0.001 → 0.5" in result.stderr
    assert "seed 0 → 4" in result.stderr
    assert "fresh" not in result.stderr
    result = federate("--resume", "third")
    assert result.exit_code == 3
    assert "no run 'third'" in result.stderr
    for unfit in (("--fresh",), ("--config", folder / "config.toml")):
        result = federate("--resume", "first", *unfit)
        assert result.exit_code == 2
        assert f"got {unfit[0]} with --resume" in result.stderr
