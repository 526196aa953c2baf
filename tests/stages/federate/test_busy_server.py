from flames_cli.stages.deploy.run_status import RunStatus
from flames_cli.stages.federate.busy_server import describe_other_runs

BUSY = RunStatus("a", "running: round 4", (7,), None, rounds=50, round=3, clients_in=("busi", "otu2d"))


def test_a_run_that_keeps_the_nodes_busy_is_named_with_its_round_and_its_clients():
    (note,) = describe_other_runs([BUSY], "b", 300.0)
    assert "run 'a' (running: round 4, round 3 of 50 is done, clients busi, otu2d)" in note
    assert "at most 300 s" in note
    assert "--wait-for-clients" in note


def test_a_run_whose_folder_is_not_known_is_named_by_its_number():
    (note,) = describe_other_runs([RunStatus("", "running; its name is not known", (7, 5), None)], "b", 60)
    assert "run 7 of Flower (running; its name" in note


def test_finished_runs_and_the_run_itself_give_no_note():
    ended = RunStatus("c", "finished", (1,), None, rounds=3, round=3)
    stopped = RunStatus("d", "stopped after round 1", (1,), None, rounds=3, round=1)
    assert describe_other_runs([BUSY, ended, stopped], "a", 300.0) == []
