"""`flames report` on the command line."""

import json
from pathlib import Path

import pytest

from flames_cli.stages.report import stage
from flames_cli.stages.report.stage import Report


@pytest.fixture
def written(monkeypatch):
    """written(pictures=True): the options with which the stage is called; it returns such a report."""

    def fake(**changes):
        seen = []
        facts = {
            "name": "flames",
            "run": "flames",
            "path": Path("w/reports/flames/report.html"),
            "pictures": False,
            "evaluated": (),
            "no_results": "",
        }

        def report(options, _):
            seen.append(options)
            return Report(**{**facts, **changes})

        monkeypatch.setattr(stage, "report", report)
        return seen

    return fake


def test_options_reach_the_stage_and_the_page_is_named(written, flames):
    seen = written()
    result = flames("report", "--run", "flames", "--compare", "fedavg", "--compare", "local")
    assert result.exit_code == 0, result.output
    assert (seen[0].run, seen[0].compare, seen[0].data) == ("flames", ("fedavg", "local"), False)
    lines = result.output.splitlines()
    assert "no picture of a patient" in lines[0]
    assert lines[-1] == "→ w/reports/flames/report.html"


def test_what_matters_about_the_page_is_said(written, flames):
    written(pictures=True, evaluated=("flames",), no_results="it is not finished", aside="report-old-1.html")
    output = flames("report", "--data").output
    assert "evaluated first: flames" in output
    assert "no test results: it is not finished" in output
    assert "report-old-1.html" in output
    assert "the page contains pictures of patients" in output


def test_json_has_the_page_and_what_is_in_it(written, flames):
    written(no_results="it is not finished")
    found = json.loads(flames("report", "--json").stdout)
    assert found == {
        "name": "flames",
        "run": "flames",
        "page": str(Path("w/reports/flames/report.html")),
        "pictures": False,
        "evaluated": [],
        "no_results": "it is not finished",
    }
