import io
import re

import pytest
from rich.console import Console

from flames_cli.cli import render_federation as render
from flames_cli.stages.federate.stage import FederationResult
from flames_cli.stages.federate.validation import Validation, ValidationRow
from flames_cli.stages.rounds import ChosenRound


def written(show, *args, width=80):
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    show(console, *args)
    return console.file.getvalue()


def record(number):
    return {
        "round": number,
        "seconds": 30.0,
        "bytes_up": 2**20,
        "bytes_down": 2**20,
        "rejected": {},
        "unchanged_groups": [],
    }


@pytest.mark.parametrize(
    ("before", "done", "says"),
    [
        (0, 2, "run 'mine': 2 rounds in 1 min, 4.0 MiB of weights moved"),
        (3, 1, "run 'mine': 1 round after round 3 in 30 s, 2.0 MiB of weights moved"),
        (4, 0, "run 'mine' has 4 rounds already, 4 were asked for; raise --rounds to continue,"),
    ],
)
def test_a_finished_run_reports_what_this_call_did(before, done, says, tmp_path):
    records = [record(number + 1) for number in range(before + done)]
    result = FederationResult("mine", tmp_path, before, records)
    assert says in written(render.print_federation, result, before + done)
    assert render.federation_json(result)["rounds"] == records


def test_a_rejected_client_is_named_at_the_end(tmp_path):
    rejected = {**record(1), "rejected": {"busi": "its report is empty"}}
    shown = written(render.print_federation, FederationResult("mine", tmp_path, 0, [rejected]), 1)
    assert "round 1: busi was rejected: its report is empty" in shown


def test_the_round_that_is_evaluated_is_named_with_its_reason(tmp_path):
    chosen = ChosenRound(1, 2, "best", "the best of 2 rounds", 0.5, 0.25, 12)
    result = FederationResult("mine", tmp_path, 0, [record(1), record(2)], chosen=chosen)
    assert "flames evaluate takes round 1: the best of 2 rounds" in written(
        render.print_federation, result, 2
    )
    assert render.federation_json(result)["chosen_round"]["round"] == 1


def test_results_of_nodes_are_shown_and_so_are_nodes_without_results(tmp_path):
    of = {"mean": 0.5, "sd": 0.25, "n": 9, "n_infinite": 0}
    metrics = {
        **dict.fromkeys(("iou", "dice", "pixel_accuracy"), of),
        "hausdorff_px": {"mean": None, "sd": None, "n": 0, "n_infinite": 9},
    }
    told = {"client": "hospital-a", "modality": "MRI", "n": 9, "metrics": metrics}
    tests = {"round": 2, "clients": [told], "silent": {"hospital-b": "its test set is too small"}}
    result = FederationResult("mine", tmp_path, 0, [record(1), record(2)], tests)
    shown = written(render.print_federation, result, 2)
    assert "clients, own test sets, after round 2" in shown
    assert re.search(r"hospital-a +MRI +9 +0.50±0.25 +0.50±0.25 +50.0±25.0 +none", shown)
    assert "hospital-b reports no test: its test set is too small" in shown
    assert render.federation_json(result)["client_tests"] == tests


def test_a_private_run_ends_with_what_it_has_cost(tmp_path):
    private = {**record(1), "epsilon": 4.7285, "delta": 1e-5}
    shown = written(render.print_federation, FederationResult("mine", tmp_path, 0, [private]), 1)
    shown = " ".join(shown.split())
    assert "privacy: epsilon 4.73 (delta 1e-05), for each client; it does not cover the losses" in shown


def row(label, modality="", n_clients=1, patients=12, images=40, best=0.75, last=0.7):
    return ValidationRow(label, modality, n_clients, patients, images, best, last)


def validation(n=3, best_round=18, last_round=24, **changes):
    names = [f"university-hospital-{number}" for number in range(n)]
    found = {
        "clients": [row(name, "MRI") for name in names],
        "models": [row("MRI", n_clients=n, patients=12 * n)],
        "total": row("all clients", n_clients=n, patients=12 * n, best=0.625, last=0.5),
        "best_round": best_round,
        "last_round": last_round,
    }
    return Validation(**{**found, **changes})


def finished(tmp_path, **changes):
    return FederationResult("mine", tmp_path, 0, [record(1), record(2)], **changes)


def test_a_run_ends_with_the_dice_of_each_client_and_model_in_the_best_and_the_last_round(tmp_path):
    shown = written(render.print_federation, finished(tmp_path, validation=validation()), 2)
    assert re.search(r"patients \(images\) +best, round 18 +last, round 24", shown)
    assert len(re.findall(r"university-hospital-\d +MRI +12 \(40\) +0.750 +0.700", shown)) == 3
    assert re.search(r"model MRI, 3 clients +36 \(40\) +0.750 +0.700", shown)
    assert "all clients" not in shown, "the only model has all clients"
    assert "by chance" not in shown


def test_several_models_end_with_a_line_of_all_clients(tmp_path):
    found = validation(models=[row("MRI", n_clients=2), row("US")])
    shown = written(render.print_federation, finished(tmp_path, validation=found), 2)
    assert re.search(r"all clients +36 \(40\) +0.625 +0.500", shown)


def test_no_number_is_cut_with_ten_clients_of_long_names(tmp_path):
    clients = [row(f"department-of-neuroradiology-of-hospital-{n}", "MRI-T1-contrast") for n in range(10)]
    found = validation(clients=clients, last_round=1000, best_round=900)
    shown = written(render.print_federation, finished(tmp_path / "x", validation=found), 2)
    table = shown[: shown.index("→")]
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    assert len(re.findall(r"12 \(40\) +0.750 +0.700", table)) == 10


def test_a_last_round_that_is_the_best_has_one_column_and_so_has_a_run_without_a_best_one(tmp_path):
    for best, title in ((24, "last and best, round 24"), (None, "last, round 24")):
        shown = written(
            render.print_federation, finished(tmp_path, validation=validation(best_round=best)), 2
        )
        assert re.search(rf"\(images\) +{title}", shown)
        assert "0.750" not in shown


def test_few_validation_patients_are_said_to_be_few(tmp_path):
    few = validation(clients=[row("a", "MRI", patients=9), row("b", "MRI")])
    shown = " ".join(written(render.print_federation, finished(tmp_path, validation=few), 2).split())
    assert (
        "1 of 2 clients has fewer than 10 validation patients, whose Dice may differ much by chance" in shown
    )


def test_a_family_ends_with_a_line_for_each_run_and_their_mean(tmp_path):
    made = [
        FederationResult(f"mine-seed-{n}", tmp_path, 0, [record(1), record(2)], validation=validation())
        for n in range(2)
    ]
    made[1] = FederationResult(
        "mine-seed-1", tmp_path, 0, [record(1)],
        validation=validation(best_round=2, total=row("all", patients=36, best=0.725, last=0.6)),
    )  # fmt: skip
    shown = written(render.print_family, "mine", made)
    assert re.search(r"mine-seed-0 +2 +36 +0.625 \(18\) +0.500 ", shown)
    assert re.search(r"mine-seed-1 +1 +36 +0.725 \(2\) +0.600", shown)
    assert re.search(r"mean±sd +0.675±0.071 +0.550±0.071", shown)
    alone = written(render.print_federation, made[0], 2, True)
    assert "validation Dice" not in alone, "the family's table has it"


def test_the_next_command_can_be_copied(tmp_path):
    from flames_cli.store import DEFAULT_WORKSPACE

    assert written(render.print_next, "mine", DEFAULT_WORKSPACE) == "next: flames evaluate --run mine\n"
    spaced = written(render.print_next, "mine", tmp_path / "my data")
    assert spaced == f"next: flames evaluate --run mine --workspace '{tmp_path}/my data'\n"
