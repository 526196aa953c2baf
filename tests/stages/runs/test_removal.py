import json

import pytest

from flames_cli.errors import FlamesError, MissingArtifact, NotWritten
from flames_cli.report.document import Document, render_document
from flames_cli.stages.runs import removal as removal_module
from flames_cli.stages.runs.listing import list_entries
from flames_cli.stages.runs.removal import plan_removal, remove_runs, require_idle
from flames_cli.store.files.atomic import write_text
from flames_cli.store.files.locks import locked, rounds_of
from flames_cli.store.runs import run_folder
from flames_cli.store.workspace import comparison_folder, evaluation_folder, report_file
from tests.support.runs import write_run


def names_in(workspace):
    return sorted(entry.name for entry in list_entries(workspace))


def write_result(folder, file, runs):
    folder.mkdir(parents=True)
    (folder / file).write_text(json.dumps({"runs": runs}), encoding="utf-8")
    return folder


def test_a_removed_run_is_gone_and_others_stay(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path, name, rounds=1)
    planned = plan_removal(tmp_path, ["c", "a", "c"])
    assert [run.name for run in planned.runs] == ["a", "c"]
    assert planned.size_bytes == sum(run.size_bytes for run in planned.runs) > 0
    assert names_in(tmp_path) == ["a", "b", "c"]
    remove_runs(tmp_path, planned)
    assert names_in(tmp_path) == ["b"]
    assert [path.name for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")] == ["b"]


def test_the_name_of_a_family_stands_for_all_its_runs_but_not_for_a_run_of_its_own(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, f"mine-seed-{seed}", rounds=1, seeds=[0, 1], seed=seed)
    write_run(tmp_path, "mine-seed-7", rounds=1)
    assert [run.name for run in plan_removal(tmp_path, ["mine"]).runs] == ["mine-seed-0", "mine-seed-1"]
    assert [run.name for run in plan_removal(tmp_path, ["mine-seed-1"]).runs] == ["mine-seed-1"]


def test_a_damaged_run_can_be_removed(tmp_path):
    run = write_run(tmp_path, "broken", rounds=1)
    run.config.unlink()
    remove_runs(tmp_path, plan_removal(tmp_path, ["broken"]))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["gone", "..", "../runs/mine", "", ".", "mine/checkpoints", "/"])
def test_a_name_that_is_no_run_removes_nothing(name, tmp_path):
    write_run(tmp_path, "mine", rounds=1)
    with pytest.raises(MissingArtifact, match=r"expected one of mine; `flames runs` lists them"):
        plan_removal(tmp_path, ["mine", name])
    assert names_in(tmp_path) == ["mine"]


def test_evaluations_and_comparisons_made_from_a_run_are_named_and_stay(tmp_path):
    for name in ("mine", "other"):
        write_run(tmp_path, name, rounds=1)
    both = [{"name": "other"}, {"name": "mine"}]
    stays = [
        write_result(evaluation_folder(tmp_path, "mine"), "evaluation.json", [{"name": "mine"}]),
        write_result(comparison_folder(tmp_path, "both"), "comparison.json", both),
    ]
    write_result(evaluation_folder(tmp_path, "other"), "evaluation.json", [{"name": "other"}])
    damaged = evaluation_folder(tmp_path, "damaged")
    damaged.mkdir()
    (damaged / "evaluation.json").write_text('{"runs": [7, {"name": []}]}', encoding="utf-8")
    planned = plan_removal(tmp_path, ["mine"])
    assert planned.results == stays
    remove_runs(tmp_path, planned)
    assert all(path.is_dir() for path in stays)


def test_reports_made_from_a_run_are_named_by_what_the_page_says(tmp_path):
    for name in ("mine", "other"):
        write_run(tmp_path, name, rounds=1)
    for report, runs in {"mine": ("other",), "of its own": ("mine", "other"), "old": ()}.items():
        page = render_document(Document(report, "", (), (), runs=runs))
        write_text(report_file(tmp_path, report), page)
    planned = plan_removal(tmp_path, ["mine"])
    assert planned.results == [tmp_path / "reports" / "of its own"]


def test_a_result_of_a_family_is_named_when_a_member_goes(tmp_path):
    write_run(tmp_path, "mine-seed-0", rounds=1, seeds=[0, 1])
    folder = write_result(comparison_folder(tmp_path, "all"), "comparison.json", [{"name": "mine"}])
    assert plan_removal(tmp_path, ["mine-seed-0"]).results == [folder]


def test_an_evaluation_in_the_folder_of_the_run_is_announced(tmp_path):
    run = write_run(tmp_path, "mine", rounds=1)
    (run.path / "evaluation").mkdir()
    assert plan_removal(tmp_path, ["mine"]).inner == [run.path / "evaluation"]


@pytest.mark.parametrize("lock", [lambda path: path, rounds_of])
def test_no_run_is_removed_while_a_process_works_on_one_of_them(lock, tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name, rounds=1)
    idle = plan_removal(tmp_path, ["a", "b"])
    require_idle(idle)
    with locked(lock(run_folder(tmp_path, "b").path)):
        with pytest.raises(FlamesError, match="run 'b' is going on"):
            require_idle(plan_removal(tmp_path, ["a", "b"]))
        with pytest.raises(FlamesError, match="run 'b' is going on"):
            remove_runs(tmp_path, idle)
    assert names_in(tmp_path) == ["a", "b"]


def test_a_folder_that_cannot_be_deleted_is_an_error_of_the_user(tmp_path, monkeypatch):
    write_run(tmp_path, "mine", rounds=1)

    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(removal_module, "remove_folder", fail)
    with pytest.raises(NotWritten, match="mine cannot be written: Permission denied"):
        remove_runs(tmp_path, plan_removal(tmp_path, ["mine"]))
