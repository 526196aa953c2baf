"""Trackers of plug-ins, which get what the built-in ones get, and end no run."""

import json

import pytest

from flames_cli.errors import FlamesError
from flames_cli.plugins import use_files
from flames_cli.stages.federate.stage import federate
from tests.support.plugins import make_package, make_site
from tests.support.stages import federate_config

__all__ = ["make_site"]

LINES = """
import json

class Lines:
    def start(self, run):
        print("hello")
        self.file = run.folder / "lines.jsonl"
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0

    def round(self, number, figures):
        with self.file.open("a") as file:
            file.write(json.dumps([number, sorted(figures)]) + "\\n")

    def final(self, number, figures):
        pass

    def finish(self, status):
        pass
"""


def tracked(tiny, rounds=1):
    return federate(federate_config(tiny(), rounds=rounds, track=("lines",)))


def test_a_tracker_of_a_package_gets_every_round(tiny, site):
    make_package(site, "flames-lines", {"trackers": {"lines": "flames_lines:Lines"}}, {"flames_lines": LINES})
    made = tracked(tiny, rounds=2)
    lines = [json.loads(line) for line in (made.folder / "lines.jsonl").read_text().splitlines()]
    assert [number for number, _ in lines] == [1, 2]
    assert "plugins" not in (made.folder / "config.toml").read_text()  # no part in the models


FAULTS = {
    "another result": ("return len", "return None; len", "start returned None, expected the number"),
    "an error": ("file.write", "1 / 0; file.write", "ZeroDivisionError: division by zero"),
    "an exit": ("self.file =", "raise SystemExit(3)\n        self.file =", "SystemExit: 3"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_tracker_that_fails_is_one_note_and_the_run_is_done(what, tiny, site, tmp_path):
    old, new, message = FAULTS[what]
    file = tmp_path / "line_tracker.py"
    file.write_text(LINES.replace(old, new) + "\nTRACKERS = {'lines': Lines}\n")
    use_files([file])
    made = tracked(tiny)
    (note,) = [note for note in made.notes if "--track" in note]
    assert note.startswith("--track lines has stopped (")
    assert message in note
    assert len(made.records) == 1


WRONG = {
    "no class": ("3", "it is int, expected a class"),
    "no tracker": ("dict", "it has no method start, round, final, finish"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_tracker_is_named_before_the_run(what, tiny, site, tmp_path):
    code, message = WRONG[what]
    file = tmp_path / "wrong_tracker.py"
    file.write_text(f"TRACKERS = {{'lines': {code}}}\n")
    use_files([file])
    with pytest.raises(FlamesError, match=f"gives the tracker 'lines', which cannot be used: {message}"):
        tracked(tiny)


def test_an_unknown_tracker_lists_the_known_ones(site, tiny):
    with pytest.raises(FlamesError, match=r"tracker 'lines' is not known; choose one of tensorboard, mlflow"):
        tracked(tiny)
