"""`flames report` on runs of a tiny federation: one valid page that says what is there and what is not."""

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from flames_cli.config import ReportConfig, TsneConfig
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.events import ignore
from flames_cli.learn.models import build_model
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.report.stage import WITH_PICTURES, WITHOUT_PICTURES, report
from flames_cli.stages.tsne.stage import tsne
from flames_cli.store.schema import CLIENT_TESTS, stamp
from tests.support.html_page import parse_page
from tests.support.stages import SMALL_MODEL, evaluate_run, federate_config

pytestmark = pytest.mark.federated

SMALL = {"device": "cpu", "precision": "fp32", "batch_size": 8}
MOST_BYTES = 600_000
"""Largest size of a page of this small federation."""
SECTIONS = [
    *("data", "partition", "training", "results", "cross-site", "map", "model", "cost", "hardware", "repeat"),
]
RUN = (b"<script", b"http://", b"https://", b"url(http", b"@import", b"xmlns")


def make(root, run, /, *compare, **options):
    return report(ReportConfig(workspace=root, run=run, compare=compare, **{**SMALL, **options}))


def read(made):
    """Return the words of a page, which is checked: it is well formed and needs nothing else."""
    content = made.path.read_bytes()
    assert not [one for one in RUN if one in content]
    assert len(content) < MOST_BYTES
    page = parse_page(content.decode("utf-8"))
    assert page.tags & {"script", "link", "iframe", "object", "form"} == set()
    assert len(page.ids) == len(set(page.ids))
    for source in page.sources:
        assert source.startswith("data:image/png;base64,") or source.removeprefix("#") in page.ids
    used = re.findall(r"url\(#([^)]+)\)", content.decode("utf-8"))
    assert set(used) <= set(page.ids)
    return " ".join("".join(page.words).split()), page


@pytest.fixture(scope="module")
def trained(tiny):
    """Return a workspace with the finished runs flames and fedavg."""
    root = tiny()
    for strategy in ("flames", "fedavg"):
        federate(federate_config(root, rounds=2, strategy=strategy))
    return root


def test_a_page_says_what_was_asked_and_what_came_out(trained):
    made = make(trained, "flames")
    words, page = read(made)
    assert made.path == trained / "reports" / "flames" / "report.html"
    assert made.evaluated == ("flames",)
    assert "strategy flames (one model per modality" in words
    assert "2 rounds on 3 clients (2 of MRI, 1 of US)" in words
    assert "Clients' models on their own test patients: mean Dice" in words
    assert "Server models on patients that no client has" in words
    assert re.search(r"Cost: \d+ s on .+, .+ of weights sent and received", words)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    for client in ("brats-1", "brats-2", "busi"):
        assert client in words
    parameters = sum(tensor.numel() for tensor in build_model("unet", seed=0, **SMALL_MODEL).parameters())
    assert f"{parameters:,} parameters" in words
    assert f"torch{torch.__version__}" in words.replace(" ", "")


def test_the_numbers_are_those_of_the_evaluation(trained):
    made = make(trained, "flames")
    words, _ = read(made)
    assert str(trained) not in made.path.read_text("utf-8")
    content = json.loads((trained / "evaluations" / "flames" / "evaluation.json").read_text("utf-8"))
    rows = [*content["tables"]["clients"], *content["tables"]["server"]]
    assert len(rows) >= 5
    for row in rows:
        assert f"{row['dice_mean']:.2f}" in words
    for client in json.loads((trained / "partitions/default/partition.json").read_text("utf-8"))["clients"]:
        numbers = " ".join(str(client["images"][name]) for name in ("train", "val", "test"))
        assert f"{client['organ']} {client['modality']}" in words
        assert numbers.replace(" ", "") in words.replace(" ", "")


def test_a_page_without_data_has_no_picture_of_a_patient(trained):
    words, page = read(make(trained, "flames"))
    assert WITHOUT_PICTURES in words
    assert "image" not in page.tags
    assert not [source for source in page.sources if source.startswith("data:")]
    pictured, page = read(make(trained, "flames", data=True))
    assert WITH_PICTURES in pictured
    assert "Examples after preprocessing" in pictured
    assert "best" in pictured
    assert len([source for source in page.sources if source.startswith("data:")]) > 10


def test_the_same_files_give_the_same_bytes_and_other_content_sets_a_page_aside(trained):
    first = make(trained, "fedavg", name="again")
    before = first.path.read_bytes()
    second = make(trained, "fedavg", name="again")
    assert (second.aside, second.path.read_bytes()) == ("", before)
    third = make(trained, "flames", name="again")
    assert third.aside == "report-old-1.html"
    assert (third.path.parent / "report-old-1.html").read_bytes() == before
    assert third.path.read_bytes() != before


def test_compared_runs_are_in_the_tables_with_paired_differences(trained):
    made = make(trained, "fedavg", "flames")
    words, _ = read(made)
    assert made.path.parent.name == "fedavg-vs-flames"
    assert "fedavg: Dice" in words
    assert "flames: Dice" in words
    assert "Dice: flames − fedavg, paired" in words
    assert re.search(r"difference to it: flames [+-]\d\.\d{3} \[[+-]\d\.\d{3}, [+-]\d\.\d{3}\]\.", words)
    assert "sign-flip test, with Holm's correction" in words


def test_what_other_commands_made_is_shown_and_else_their_command(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    words, _ = read(make(root, "flames"))
    assert "flames evaluate --run flames --cross-site" in words
    assert "flames tsne" in words
    evaluate_run(root, "flames", cross_site=True)
    tsne(TsneConfig(workspace=root, max_images=10, perplexity=3))
    words, page = read(make(root, "flames"))
    assert "flames evaluate --run flames --cross-site" not in words
    assert re.search(r"brats-1 \(MRI, \d\)", words)
    assert "t-SNE of" in words
    assert "img" in page.tags


def test_a_run_that_is_not_finished_is_not_evaluated(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    config = root / "runs" / "flames" / "config.toml"
    config.write_text(config.read_text("utf-8").replace("rounds = 1", "rounds = 3"), "utf-8")
    made = make(root, "flames")
    words, _ = read(made)
    assert "Not finished: flames (1 of 3 rounds)" in words
    assert "a report evaluates finished runs only" in words
    assert not (root / "evaluations").exists()
    assert "training loss by round" in made.path.read_text("utf-8")
    federate(federate_config(root, rounds=1, strategy="fedavg"))
    with pytest.raises(FlamesError, match=r"1 of 3 rounds.*continue it"):
        make(root, "flames", "fedavg")


def test_a_run_that_has_just_begun_has_a_page(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    for name in ("rounds.jsonl", "checkpoints", "final-models.json", "rounds.png"):
        path = root / "runs" / "flames" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    made = make(root, "flames")
    words, _ = read(made)
    assert str(root) not in made.path.read_text("utf-8")
    assert "0 of 1 round done so far" in words
    assert "No round is done." in words


def test_a_family_has_a_page_about_all_its_runs(tiny):
    root = tiny()
    config = federate_config(root, rounds=1, seeds=(0, 1))
    list(federate_all(config, lambda _: nullcontext(ignore)))
    words, _ = read(make(root, "flames"))
    assert "2 runs of strategy flames" in words
    assert "flames-seed-0" in words
    assert "flames-seed-1" in words


def test_a_run_whose_partition_is_gone_has_a_page_that_says_so(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    shutil.rmtree(root / "partitions")
    made = make(root, "flames")
    words, _ = read(made)
    assert "The partition of the run is not here" in words
    assert str(root) not in made.path.read_text("utf-8")
    assert "no partition" in made.no_results
    assert "Learning curves" in words


@pytest.mark.parametrize("strategy", ["local", "centralised"])
def test_other_strategies_have_a_page(strategy, tiny):
    root = tiny()
    federate(federate_config(root, rounds=1, strategy=strategy))
    words, _ = read(make(root, strategy))
    assert "Server models on patients that no client has" in words


def test_a_private_run_says_nothing_about_single_clients(tiny):
    root = tiny()
    federate(
        federate_config(
            root,
            rounds=1,
            strategy="fedavg-modality",
            dp_noise=1.0,
            dp_clip=0.5,
            lr_by_modality={"brats-1": 0.01, "US": 0.02},
        )
    )
    words, page = read(make(root, "fedavg-modality"))
    assert "--lr US=0.02" in words
    assert "nothing about single clients" in words
    assert "Differential privacy: epsilon" in words
    assert "brats-1" not in words
    assert "brats-2" not in words
    assert "Sizes of lesions" not in words
    assert "patients (images)" not in words
    assert "cross-site" not in page.ids
    assert "Server models on patients that no client has" in words
    assert "Clients' models on their own test patients" not in words
    with pytest.raises(FlamesError, match="leave --data out"):
        make(root, "fedavg-modality", data=True)
    federate(federate_config(root, rounds=1))
    with pytest.raises(FlamesError, match="run 'fedavg-modality' has differential privacy"):
        make(root, "flames", "fedavg-modality", data=True)


def test_a_run_that_does_not_exist_is_an_error(trained):
    with pytest.raises(MissingArtifact, match="no run 'gone'"):
        make(trained, "gone")


def test_the_commands_name_the_options_that_differ_from_the_default(trained):
    words, _ = read(make(trained, "flames"))
    assert "flames partition --split brats=2 --split busi=1" in words
    command = re.search(r"flames federate (.*?) flames evaluate", words)[1]
    assert "--rounds 2" in command
    assert "--model-option base_channels=4" in command
    assert "--strategy" not in command
    assert "--dice-weight" not in command


def test_a_reason_from_another_machine_stays_text(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    path = root / "runs" / "flames" / "rounds.jsonl"
    line = json.loads(path.read_text("utf-8"))
    hostile = "</td><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e"
    line["rejected"] = {hostile: hostile, "b": f"{root}/a.h5 or /home/jo.doe/x/b.h5 is damaged; see 1/2"}
    path.write_text(json.dumps(line) + "\n", "utf-8")
    words, page = read(make(root, "flames"))
    assert "</td><img src=x onerror=alert(1)>{{ 7 * 7 }}\\u202e" in words
    assert "img" not in page.tags
    assert "a.h5 or b.h5 is damaged; see 1/2" in words


def test_a_run_of_real_nodes_has_their_own_numbers(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    run = root / "runs" / "flames"
    config = (run / "config.toml").read_text("utf-8").replace('engine = "inline"', 'engine = "superlink"')
    (run / "config.toml").write_text(re.sub(r"partition_sha256 = .*\n", "", config), "utf-8")
    shutil.rmtree(root / "partitions")
    metrics = {
        name: {"mean": 0.25, "sd": 0.125, "n": 5, "n_infinite": 0}
        for name in ("iou", "dice", "pixel_accuracy", "hausdorff_px")
    }
    tests = {
        **stamp(CLIENT_TESTS),
        "round": 1,
        "clients": [{"client": "busi", "modality": "US", "n": 5, "metrics": metrics}],
        "silent": {"brats-1": "it was not present"},
    }
    (run / "client-tests.json").write_text(json.dumps(tests), "utf-8")
    words, page = read(make(root, "flames"))
    assert "The data of the clients are at their sites." in words
    assert "mean Dice 0.25 over 1 client" in words
    assert "0.25 ± 0.12" in words
    assert "brats-1 reports no test: it was not present." in words
    assert {"map", "cross-site"} & {*page.ids} == set()
    assert "flames evaluate" not in words


def test_shards_that_were_deleted_are_named_and_the_rest_is_shown(trained, tmp_path):
    root = Path(shutil.copytree(trained, tmp_path / "copy"))
    shutil.rmtree(root / "partitions" / "default" / "shards")
    words, _ = read(make(root, "flames"))
    assert "Sizes of lesions are not shown" in words
    assert "Clients and their data sets" in words


def test_more_than_two_runs_have_rows_of_their_own_and_the_best_is_bold(trained, tmp_path):
    root = Path(shutil.copytree(trained, tmp_path / "copy"))
    federate(federate_config(root, rounds=1, strategy="local"))
    made = make(root, "flames", "fedavg", "local")
    read(made)
    text = made.path.read_text("utf-8")
    table = text.partition("Table 3 of the FLAMES paper)</span></caption>")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="col"[^>]*>([^<]+)', table)[2:5] == ["run", "patients (cases)", "IoU"]
    for run in ("flames", "fedavg", "local"):
        assert table.count(f'<td class="name">{run}</td>') == 4  # 3 clients, and all patients
    assert "<b>" in table
