import json
import shutil

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.cross_site import CrossScore, group_cells, make_cells, make_heat_map
from flames_cli.stages.federate.stage import federate
from flames_cli.store.evaluations import read_case_scores, read_volume_scores
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run, federate_config

MODALITIES = {"a": "MRI", "b": "US", "c": "MRI"}


def score(model, client, case, dice, run="one", patient=None):
    return CrossScore(
        run=run,
        seed=0,
        fold=None,
        model=model,
        model_modality=MODALITIES[model],
        client=client,
        modality=MODALITIES[client],
        protocol="images",
        person=f"d/{patient or case}",
        case=case,
        dice=dice,
    )


def test_a_cell_is_the_mean_over_cases_and_counts_patients():
    (cell,) = make_cells([score("a", "b", "1", 0.2), score("a", "b", "2", 0.6, patient="1")])
    assert (cell.model, cell.client, cell.n, cell.patients) == ("a", "b", 2, 1)
    assert cell.dice_mean == pytest.approx(0.4)
    assert cell.dice_sd == pytest.approx(0.4 / np.sqrt(2))


def test_several_runs_are_averaged_for_each_case():
    runs = [score("a", "b", case, dice, run) for run, dice in (("one", 0.2), ("two", 0.6)) for case in "xy"]
    (cell,) = make_cells(runs)
    assert (cell.n, cell.dice_mean, cell.dice_sd) == (2, pytest.approx(0.4), 0.0)


def test_the_picture_groups_modalities_and_marks_the_own_test_set():
    cells = make_cells([score(model, client, "1", 0.5) for model in "abc" for client in "ab"])
    picture = make_heat_map(cells, "t")
    assert (picture.rows, picture.columns) == (["a", "c", "b"], ["a (1)", "b (1)"])
    assert (picture.row_groups, picture.column_groups) == (["MRI", "MRI", "US"], ["MRI", "US"])
    assert picture.marked == [(0, 0), (2, 1)]


def test_a_pair_without_a_score_is_empty_in_the_picture():
    picture = make_heat_map(make_cells([score("a", "a", "1", 0.5), score("b", "b", "1", 0.25)]), "t")
    assert picture.values == [[0.5, None], [None, 0.25]]


def test_cells_are_of_the_own_client_of_the_same_modality_or_of_another_one():
    dice = {"a": 0.9, "b": 0.1, "c": 0.5}
    cells = make_cells([score("a", client, "1", value) for client, value in dice.items()])
    assert group_cells(cells) == {"own": [0.9], "same modality": [0.5], "other modality": [0.1]}
    assert group_cells(cells[:1]) == {"own": [0.9]}


@pytest.fixture(scope="module")
def crossed(finished_runs, tmp_path_factory):
    """Return the cross-site evaluation of run flames, with pictures: for reading only."""
    copy = shutil.copytree(finished_runs, tmp_path_factory.mktemp("crossed") / "space")
    return evaluate_run(copy, cross_site=True, overlays=True)


@pytest.mark.federated
def test_every_client_s_model_meets_every_client_s_test_set(crossed):
    lines = read_csv(crossed.folder / "cross-site.csv")
    clients = {line["client"] for line in lines}
    assert len(lines) == len(clients) ** 2
    assert {(line["model"], line["client"]) for line in lines} == {(a, b) for a in clients for b in clients}
    assert (crossed.folder / "cross-site.png").is_file()


@pytest.mark.federated
def test_every_cell_follows_from_the_scores_next_to_it(crossed):
    scores = read_csv(crossed.folder / "cross-site-cases.csv")
    for line in read_csv(crossed.folder / "cross-site.csv"):
        own = [one for one in scores if (one["model"], one["client"]) == (line["model"], line["client"])]
        assert float(line["dice_mean"]) == pytest.approx(np.mean([float(one["dice"]) for one in own]))
        assert int(line["n"]) == len(own)
        assert int(line["patients"]) == len({one["person"] for one in own})


@pytest.mark.federated
def test_the_diagonal_is_the_evaluation_of_the_clients(crossed):
    cases = read_case_scores(crossed.folder / "cases.csv")
    volumes = read_volume_scores(crossed.folder / "volumes.csv")
    complete = {(one.dataset, one.volume) for one in volumes}
    known = {("volumes", one.model, one.volume): one.dice for one in volumes if one.split == "client_test"}
    known |= {
        ("images", one.model, one.case): one.dice
        for one in cases
        if one.split == "client_test" and one.selected and (one.dataset, one.volume) not in complete
    }
    scores = read_csv(crossed.folder / "cross-site-cases.csv")
    own = {
        (one["protocol"], one["model"], one["case"]): float(one["dice"])
        for one in scores
        if one["model"] == one["client"]
    }
    assert own == known


@pytest.mark.federated
def test_the_name_of_the_folder_and_the_options_say_that_it_is_cross_site(trained):
    result = evaluate_run(trained, cross_site=True, client_test=True)
    assert result.folder.name == "flames-client-test-cross-site"
    summary = json.loads((result.folder / "evaluation.json").read_text(encoding="utf-8"))
    assert summary["options"]["cross_site"] is True
    assert summary["fairness"]["worst"] in {row["model"] for row in summary["tables"]["clients"]}


@pytest.mark.federated
def test_data_at_sites_cannot_be_crossed(tiny, monkeypatch):
    from flames_cli.stages.evaluate import loading

    root = tiny()
    federate(federate_config(root, rounds=1))
    real = loading.load_run

    def at_sites(*args):
        from dataclasses import replace

        return replace(real(*args), at_sites=True)

    monkeypatch.setattr(loading, "load_run", at_sites)
    with pytest.raises(FlamesError, match="leave --cross-site out"):
        evaluate_run(root, cross_site=True)
