"""--quiet and --verbose."""

import re

import pytest

from tests.support.command_line import SMALL_FEDERATION

pytestmark = [pytest.mark.usefixtures("one_thread")]


@pytest.mark.federated
def test_quiet_shows_results_only_and_verbose_the_log(flames, tiny):
    space = tiny()

    def federate(*args):
        return flames("federate", *SMALL_FEDERATION, *args, "--workspace", space)

    quiet = federate("--rounds", 1, "--quiet")
    assert quiet.exit_code == 0, quiet.output
    assert quiet.stderr == ""
    assert "run 'flames': 1 round in" in quiet.stdout
    plain = federate("--rounds", 2)
    assert "round 2/2" in plain.stderr
    verbose = federate("--rounds", 3, "--verbose")
    log = (space / "runs" / "flames" / "log.txt").read_text()
    assert [len(re.findall(r"Z round \d: ", text)) for text in (log, verbose.stderr)] == [3, 1]
    assert log.endswith(verbose.stderr)


def test_quiet_and_verbose_exclude_each_other(flames):
    result = flames("federate", "--quiet", "--verbose")
    assert result.exit_code == 2
    assert "got --quiet with --verbose, expected one of the two; leave one out" in result.stderr


def test_errors_are_shown_with_quiet(flames):
    result = flames("evaluate", "--quiet")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: no run in flames-workspace/runs")
