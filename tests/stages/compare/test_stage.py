"""`flames compare` on runs of a tiny federation."""

import csv
import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from flames_cli.config import CompareConfig, PartitionConfig
from flames_cli.core.scores.comparisons import compare_pairs, holm
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.events import ignore
from flames_cli.stages.compare import stage as compare_stage
from flames_cli.stages.compare.stage import compare, default_name
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import make_partitions, partition
from flames_cli.stages.runs.removal import find_results
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated

SMALL = {"device": "cpu", "precision": "fp32", "batch_size": 8}


@pytest.fixture(scope="module")
def trained(tiny):
    """Return a workspace with the families flames and fedavg of two seeds, and the run local."""
    root = tiny()
    for strategy in ("flames", "fedavg"):
        config = federate_config(root, rounds=1, strategy=strategy, seeds=(0, 1))
        list(federate_all(config, lambda _: nullcontext(ignore)))
    federate(federate_config(root, rounds=1, strategy="local"))
    return root


@pytest.fixture(scope="module")
def compared(trained):
    """Return the comparison of all three."""
    return compare_runs(trained, "flames", "fedavg", "local", metrics=("dice", "hausdorff"))


def compare_runs(root, *runs, **options):
    return compare(CompareConfig(workspace=root, runs=runs, **{**SMALL, **options}))


def scores_of(root, run):
    """Return {(split, modality or client, case): {seed: [Dice of each model]}} from cases.csv."""
    found = {}
    for row in read_csv(root / "evaluations" / run / "cases.csv"):
        owner = row["model"] if row["split"] == "client_test" else row["modality"]
        key = (row["split"], owner, row["dataset"], row["case"], row["patient"])
        found.setdefault(key, {}).setdefault(row["seed"], []).append(float(row["dice"]))
    return found


def mean_of(by_seed):
    return np.mean([np.mean(models) for models in by_seed.values()])


def test_the_runs_are_evaluated_first_and_not_again(trained, compared):
    assert set(compared.evaluated) <= {"flames", "fedavg", "local"}
    before = {path: path.stat().st_mtime_ns for path in (trained / "evaluations").glob("*/*")}
    assert compare_runs(trained, "flames", "fedavg", overlays=False).evaluated == ()
    assert before == {path: path.stat().st_mtime_ns for path in (trained / "evaluations").glob("*/*")}


def test_every_mean_is_recomputed_from_the_evaluations(trained, compared):
    rows = [row for row in read_csv(compared.folder / "means.csv") if row["metric"] == "dice"]
    assert {row["run"] for row in rows} == {"flames", "fedavg", "local"}
    checked = 0
    for row in rows:
        split = f"{row['table'].removesuffix('s')}_test"
        scores = scores_of(trained, row["run"])
        own = {
            key: by_seed
            for key, by_seed in scores.items()
            if key[0] == split and (row["kind"] == "all" or key[1] == row["label"])
        }
        by_patient = {}
        for key, by_seed in own.items():
            unit = (key[2], key[4]) if row["kind"] == "all" else key
            by_patient.setdefault(unit, []).append(mean_of(by_seed))
        assert float(row["mean"]) == pytest.approx(np.mean([*map(np.mean, by_patient.values())]), abs=1e-12)
        assert int(row["n"]) == len(own)
        checked += 1
    assert checked == 3 * (4 + 3)


def test_every_difference_is_recomputed_from_the_evaluations(trained, compared):
    rows = [row for row in read_csv(compared.folder / "differences.csv") if row["metric"] == "dice"]
    reference = scores_of(trained, "flames")
    by_family = {}
    for row in rows:
        split = f"{row['table'].removesuffix('s')}_test"
        scores = scores_of(trained, row["run"])
        by_patient = {}
        for key, by_seed in scores.items():
            if key[0] == split and (row["kind"] == "all" or key[1] == row["label"]):
                by_patient.setdefault(key[2:3] + key[4:], []).append(
                    mean_of(by_seed) - mean_of(reference[key])
                )
        differences = [np.mean(values) for values in by_patient.values()]
        assert float(row["difference"]) == pytest.approx(np.mean(differences), abs=1e-12)
        assert int(row["n_patients"]) == len(differences)
        expected = compare_pairs(differences, 0)
        assert float(row["p_permutation"]) == expected.p_permutation
        assert float(row["p_wilcoxon"]) == expected.p_wilcoxon
        assert (row["low"] == "") == (len(differences) == 1)
        low, high = (float(row[name] or row["difference"]) for name in ("low", "high"))
        assert low - 1e-12 <= float(row["difference"]) <= high + 1e-12
        by_family.setdefault(row["family"], []).append(row)
    assert {name: len(rows) for name, rows in by_family.items()} == {"single models": 10, "all patients": 4}
    for family in by_family.values():
        corrected = holm([float(row["p_permutation"]) for row in family])
        assert [float(row["p_permutation_holm"]) for row in family] == corrected


def test_fairness_is_that_of_the_clients_means(compared):
    means = read_csv(compared.folder / "means.csv")
    for row in read_csv(compared.folder / "fairness.csv"):
        own = {
            one["label"]: float(one["mean"])
            for one in means
            if (one["table"], one["kind"], one["run"], one["metric"])
            == ("clients", "model", row["run"], row["metric"])
        }
        values = [*own.values()]
        assert float(row["mean"]) == pytest.approx(np.mean(values))
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1))
        assert float(row["range"]) == pytest.approx(np.ptp(values))
        assert own[row["worst_client"]] == pytest.approx(float(row["worst"]))


def test_the_tables_of_a_metric_have_the_numbers_of_all(compared):
    means = {
        (row["metric"], row["table"], row["label"], row["run"]): row["mean"]
        for row in read_csv(compared.folder / "means.csv")
    }
    for name in ("clients-dice", "server-dice", "clients-hausdorff", "server-hausdorff"):
        rows = read_csv(compared.folder / f"{name}.csv")
        assert rows
        for row in rows:
            for run in compared.runs:
                assert row[run] == means[row["metric"], row["table"], row["label"], run]
        for suffix in ("md", "tex"):
            assert "flames" in (compared.folder / f"{name}.{suffix}").read_text(encoding="utf-8")


def test_seeds_are_paired_only_with_the_same_seeds(compared):
    paired = {(row["run"], row["same_replicates"]) for row in read_csv(compared.folder / "differences.csv")}
    assert paired == {("fedavg", "1"), ("local", "0")}


def test_the_summary_names_runs_members_and_the_reference(compared):
    summary = json.loads((compared.folder / "comparison.json").read_text(encoding="utf-8"))
    assert (summary["format"], summary["version"], summary["reference"]) == ("flames-comparison", 1, "flames")
    assert [[one["name"] for one in run["members"]] for run in summary["runs"]] == [
        ["flames-seed-0", "flames-seed-1"],
        ["fedavg-seed-0", "fedavg-seed-1"],
        ["local"],
    ]
    assert any("local has 2 server models of one modality" in note for note in summary["notes"])


def test_pictures_show_the_same_cases_of_all_runs(compared):
    names = {path.name for path in compared.folder.glob("*.png")}
    assert {"overlays-client.png", "overlays-server.png", "differences-dice.png"} <= names


def test_the_same_comparison_gives_the_same_bytes(trained, compared):
    first = {path.name: path.read_bytes() for path in compared.folder.iterdir()}
    again = compare_runs(trained, *compared.runs, metrics=("dice", "hausdorff"), name="again")
    assert again.folder != compared.folder
    second = {path.name: path.read_bytes() for path in again.folder.iterdir()}
    assert first.keys() == second.keys()
    differing = [name for name in first if first[name] != second[name]]
    assert differing == ["comparison.json"]
    assert (
        first["comparison.json"].replace(b'"name": "flames-vs-fedavg-vs-local"', b'"name": "again"')
        == (second["comparison.json"])
    )


def test_a_comparison_of_other_models_is_set_aside(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    first = compare_runs(root, "flames", "local", overlays=False, name="mine")
    assert first.aside is None
    again = compare_runs(root, "flames", "local", overlays=False, name="mine", metrics=("iou",))
    assert again.aside is None
    assert (again.folder / "clients-dice.csv").is_file()
    other = compare_runs(root, "fedavg", "local", overlays=False, name="mine")
    assert other.aside == root / "comparisons" / "mine-old-1"
    assert (other.aside / "clients-iou.csv").is_file()


def test_a_call_that_is_interrupted_leaves_the_earlier_comparison(trained, tmp_path, monkeypatch):
    root = shutil.copytree(trained, tmp_path / "space")
    folder = compare_runs(root, "flames", "local", overlays=False, name="mine").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_stage, "draw_comparison", interrupt)
    for run in ("flames", "fedavg"):
        with pytest.raises(KeyboardInterrupt):
            compare_runs(root, run, "local", name="mine", metrics=("iou",))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in (root / "comparisons").glob("mine*")] == ["mine"]


def test_the_same_round_that_is_asked_for_is_the_same_evaluation(trained, compared):
    result = compare_runs(trained, "flames", "local", round="last", overlays=False)
    assert result.evaluated == ()
    assert result.name == "flames-vs-local-last"
    assert not [*(trained / "evaluations").glob("*-old-*")]


def test_an_evaluation_of_earlier_models_is_made_again(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    evaluate_run(root, "local")
    federate(federate_config(root, rounds=2, strategy="local"))
    result = compare_runs(root, "flames", "local", overlays=False)
    assert result.evaluated == ("local",)
    assert (root / "evaluations" / "local-old-1").is_dir()
    assert [run.round for run in result.evaluations[1].runs] == [2]


def test_one_run_alone_has_means_and_no_differences(trained):
    result = compare_runs(trained, "local")
    assert read_csv(result.folder / "differences.csv") == []
    assert read_csv(result.folder / "fairness.csv")
    assert not (result.folder / "differences-dice.png").exists()


def test_runs_on_other_test_patients_are_not_compared(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    partition(PartitionConfig(workspace=root, name="other", split={"brats": 2}, fold="1/2"))
    federate(federate_config(root, rounds=1, strategy="local", run="folded", partition="other"))
    with pytest.raises(FlamesError) as caught:
        compare_runs(root, "local", "folded")
    message = str(caught.value)
    assert "run 'folded' (partition other) and run 'local' (partition default) have different" in message
    assert "sha" not in message


def test_no_run_and_an_unknown_run_and_metric_are_rejected(trained):
    with pytest.raises(FlamesError, match="got no run to compare"):
        compare_runs(trained)
    with pytest.raises(MissingArtifact, match="no run 'gone'"):
        compare_runs(trained, "flames", "gone")
    with pytest.raises(FlamesError, match=r"got --metric nsd, and no test case .* choose one of dice, iou"):
        compare_runs(trained, "local", metrics=("nsd",))


def test_values_of_a_column_are_compared(trained):
    result = compare_runs(trained, "flames", "fedavg", by="organ", overlays=False)
    rows = read_csv(result.folder / "means.csv")
    labels = {row["label"] for row in rows if row["table"] == "clients-by-organ"}
    assert labels == {"brain", "breast"}
    assert result.name == "flames-vs-fedavg-by-organ"


def test_volumes_or_their_selected_slices_have_one_value_each(finished_runs, tmp_path):
    root = shutil.copytree(finished_runs, tmp_path / "space")
    volumes = compare_runs(root, "flames", "fedavg", protocol="volumes", metrics=("dice", "nsd"))
    slices = compare_runs(root, "flames", "fedavg", protocol="slices", overlays=False)
    folder = root / "evaluations" / "flames"
    stacks, images = read_csv(folder / "volumes.csv"), read_csv(folder / "cases.csv")

    def mean_in(result, metric, label):
        rows = read_csv(result.folder / "means.csv")
        key = ("clients", "model", label, "flames", metric)
        columns = ("table", "kind", "label", "run", "metric")
        (row,) = (row for row in rows if tuple(row[column] for column in columns) == key)
        return float(row["mean"]), int(row["n"])

    own = [row for row in stacks if row["model"] == "brats-1"]
    assert own
    for metric in ("dice", "nsd_2mm"):
        expected = np.mean([float(row[metric]) for row in own])
        assert mean_in(volumes, metric, "brats-1") == (pytest.approx(expected), len(own))
    for label in ("brats-1", "busi"):
        own = [row for row in images if (row["model"], row["selected"]) == (label, "1")]
        expected = np.mean([float(row["dice"]) for row in own])
        assert mean_in(slices, "dice", label) == (pytest.approx(expected), len(own))
    assert (volumes.folder / "overlays-client.png").is_file()


def test_folds_are_pooled_and_paired_with_intervals(tiny):
    root = tiny()
    make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=2))
    for strategy in ("flames", "fedavg"):
        config = federate_config(root, rounds=1, strategy=strategy, seeds=(0, 1), folds="")
        list(federate_all(config, lambda _: nullcontext(ignore)))
    result = compare_runs(root, "fedavg", "flames")
    names = [f"flames-fold-{fold}-seed-{seed}" for fold in (1, 2) for seed in (0, 1)]
    assert sorted(run.name for run in result.evaluations[1].runs) == names
    cases = read_csv(root / "evaluations" / "flames" / "cases.csv")
    for row in read_csv(result.folder / "means.csv"):
        if (row["metric"], row["kind"], row["run"]) == ("dice", "model", "flames"):
            split = f"{row['table'].removesuffix('s')}_test"
            own = [one for one in cases if (one["split"], one["model"]) == (split, row["label"])]
            assert float(row["mean"]) == pytest.approx(np.mean([float(one["dice"]) for one in own]))
            assert int(row["n"]) == len({one["case"] for one in own})
            assert int(row["replicates"]) == (2 if row["table"] == "clients" else 4)
    everybody = [row for row in read_csv(result.folder / "differences.csv") if row["metric"] == "dice"]
    clients = next(row for row in everybody if (row["table"], row["kind"]) == ("clients", "all"))
    patients = {(one["dataset"], one["patient"]) for one in cases if one["split"] == "client_test"}
    assert (int(clients["n_patients"]), clients["same_replicates"]) == (len(patients), "1")
    assert float(clients["low"]) <= float(clients["difference"]) <= float(clients["high"])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"runs": ("a", "b")}, "a-vs-b"),
        ({"runs": ("a",), "protocol": "slices"}, "a-slices"),
        (
            {"runs": ("a", "b"), "round": 3, "by": "age group", "seed": 2},
            "a-vs-b-round-3-by-age-group-seed-2",
        ),
        ({"runs": ("a" * 30, "b" * 30, "c", "d")}, "a" * 30 + "-and-3-more"),
        ({"runs": ("a" * 64, "b"), "protocol": "slices"}, "a" * 46 + "-and-1-more-slices"),
    ],
)
def test_the_default_name_says_what_differs_from_the_default(options, name):
    found = default_name(CompareConfig(**options))
    assert found == name
    assert len(found) <= 64


def test_cells_of_the_csv_are_numbers(compared):
    with (compared.folder / "means.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert np.isfinite(float(row["mean"]))


def test_an_evaluation_with_other_options_is_compared_by_its_name(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "workspace")
    evaluate_run(root, "local", threshold=0.3)
    made = compare_runs(root, "local", "local-threshold-0.3")
    assert made.runs == ["local", "local-threshold-0.3"]
    assert "local-threshold-0.3: an evaluation as it is, of local, round 1" in made.notes
    (row,) = (
        one
        for one in read_csv(made.folder / "differences.csv")
        if (one["metric"], one["table"], one["kind"]) == ("dice", "clients", "all")
    )
    mine, theirs = ({k: mean_of(v) for k, v in scores_of(root, run).items()} for run in made.runs)
    clients = [key for key in mine if key[0] == "client_test"]
    assert mine.keys() == theirs.keys()
    assert any(mine[key] != theirs[key] for key in clients)
    gains = {}
    for key in clients:
        gains.setdefault((key[2], key[4]), []).append(theirs[key] - mine[key])
    assert float(row["difference"]) == pytest.approx(np.mean([np.mean(one) for one in gains.values()]))
    assert list(find_results(root, ["local"])).count(made.folder) == 1
    with pytest.raises(FlamesError, match="whose round is fixed"):
        compare_runs(root, "local", "local-threshold-0.3", round="last")
    shutil.rmtree(root / "runs" / "local")
    evaluation = compare_runs(root, "local-threshold-0.3", name="kept")
    assert evaluation.evaluated == ()
    assert read_csv(evaluation.folder / "means.csv")


def test_a_run_has_precedence_over_an_evaluation_of_its_name(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "workspace")
    evaluate_run(root, "fedavg-seed-0", name="local")
    made = compare_runs(root, "local", overlays=False)
    assert [run.name for run in made.evaluations[0].runs] == ["local"]
