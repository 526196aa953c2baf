"""`flames adapt`: a model for one client, chosen by its validation patients and never by its test."""

import math
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from flames_cli.config import AdaptConfig, ExportConfig, PartitionConfig
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.learn import adaptation
from flames_cli.stages.adapt import training
from flames_cli.stages.adapt.stage import adapt
from flames_cli.stages.export.stage import export
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.models import read_model, write_model
from flames_cli.store.workspace import partition_file
from tests.support.asserts import assert_same
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated


def run(root, **options):
    """An adaptation of the US model to busi, of one epoch by default."""
    small = {"model": "us", "client": "busi", "epochs": 1, "batch_size": 4, "device": "cpu", "lr": 1e-2}
    return adapt(AdaptConfig(workspace=root, **{**small, **options}))


@pytest.fixture(scope="module")
def source(tiny):
    """A workspace with the US model of a federation in models/us."""
    root = tiny()
    federate(federate_config(root, rounds=1, run="first"))
    export(ExportConfig(workspace=root, run="first", model="US", name="us"))
    return root


@pytest.fixture
def root(source, tmp_path):
    return shutil.copytree(source, tmp_path / "workspace")


def test_an_adapted_model_says_from_what_and_how_it_was_made(root):
    made = run(root)
    base, weights = read_model(root / "models" / "us")
    info, adapted = read_model(root / "models" / "us-busi")
    assert info == made.info
    assert (info.training.kind, info.training.client, info.input.organs) == ("adapted", "busi", ("breast",))
    assert (info.training.base.name, info.training.base.sha256) == ("us", base.sha256)
    assert info.training.base.origin == "model of the server, run first (flames), round 1"
    assert info.training.base.partitions == (hash_file(partition_file(root)),)
    assert not np.array_equal(adapted["head.weight"], weights["head.weight"])
    card = (made.folder / "README.md").read_text()
    assert base.sha256 in card
    assert "adapted to the images of client busi from the model us" in card
    found = f"{made.tests[0].dice_adapted:.3f}"
    assert f"mean Dice of 2 images of 2 patients of the client, who chose nothing: {found}" in card
    # Fewer than ten validation patients choose nothing.
    assert (made.chosen, info.training.base.share) == ("fine-tuned", 1.0)
    assert "choose by chance" in info.training.base.why


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(root):
    one, two, other = (run(root, name=name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one.info.sha256 == two.info.sha256 != other.info.sha256
    assert replace(one, folder=two.folder, info=two.info).as_json() == two.as_json()


def test_a_shard_gives_what_its_client_gives(root):
    by_name = run(root, name="a")
    by_file = run(root, name="b", client=None, shard=root / "partitions/default/shards/busi.h5")
    assert by_name.info.sha256 == by_file.info.sha256
    assert by_name.info.training.base == by_file.info.training.base


def test_the_test_of_the_model_as_it_is_equals_an_evaluation(root):
    made = run(root)
    (line,) = [
        one
        for one in evaluate_run(root, "first", client_test=True).content.tables["clients"]
        if one["model"] == "busi"
    ]
    found = made.tests[0]
    assert (found.protocol, found.n, found.patients) == ("images", line["n"], 2)
    assert math.isclose(found.gain, found.dice_adapted - found.dice_as_it_is, abs_tol=1e-12)
    # One client of its modality: its own model is the server's.
    assert math.isclose(found.dice_as_it_is, line["dice_mean"], abs_tol=1e-6)


def test_enough_validation_patients_choose_the_best_candidate(root, monkeypatch):
    monkeypatch.setattr(adaptation, "selects_best", lambda keep_epoch, val: True)
    made = run(root, epochs=3)
    best = max(made.candidates, key=lambda one: one.dice)
    assert made.chosen == best.name
    assert made.info.validation["dice"] == best.dice
    assert [one.name for one in made.candidates] == list(adaptation.SHARES)


@pytest.mark.parametrize("name", adaptation.SHARES)
def test_each_candidate_can_be_the_result(name, root, monkeypatch):
    def choose(candidates, keep_epoch, val):
        return next(one for one in candidates if one.name == name), "for the test"

    monkeypatch.setattr(adaptation, "_choose", choose)
    made = run(root)
    base, found = (read_model(root / "models" / folder)[1] for folder in ("us", "us-busi"))
    same = {entry for entry in base if np.array_equal(base[entry], found[entry])}
    statistics = {entry for entry in base if "running" in entry}
    if name == adaptation.AS_IS:
        assert same == base.keys()
        assert made.tests[0].gain == 0.0
    elif name == adaptation.OWN_STATISTICS:
        assert same == base.keys() - statistics
    else:
        assert not same & {"head.weight", *statistics}


def test_the_test_set_chooses_nothing(root):
    one = run(root, name="a")
    with h5py.File(root / "partitions/default/shards/busi.h5", "r+") as file:
        masks = file["test"]["mask"]
        masks[...] = 1 - masks[...]
    two = run(root, name="b", client=None, shard=root / "partitions/default/shards/busi.h5")
    assert one.info.sha256 == two.info.sha256
    assert one.tests != two.tests


def test_the_encoder_stays_when_it_is_frozen(root):
    made = run(root, freeze="encoder")
    base, found = (read_model(root / "models" / folder)[1] for folder in ("us", "us-busi"))
    kept = {entry for entry in base if entry.startswith("encoders.")}
    assert_same({name: found[name] for name in kept}, {name: base[name] for name in kept})
    assert made.info.training.base.freeze == "encoder"


def test_an_adapted_model_can_be_adapted_again_and_can_start_a_run(root):
    run(root)
    again = run(root, model="us-busi", name="again")
    assert again.info.training.base.origin == "adapted from us"
    partition(PartitionConfig(workspace=root, name="us", datasets=("busi",)))
    made = federate(federate_config(root, rounds=1, run="more", partition="us", start_from="us-busi"))
    assert not any("not known" in note for note in made.notes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": None}, FlamesError, "got no model to adapt"),
        ({"model": "nobody"}, MissingArtifact, "no model 'nobody'"),
        ({"client": None}, FlamesError, "neither --shard nor --client"),
        ({"shard": "x.h5"}, FlamesError, "both --shard and --client"),
        ({"client": None, "shard": "x.h5"}, MissingArtifact, "x.h5 does not exist"),
        (
            {"client": "nobody"},
            FlamesError,
            "expected a client of partition 'default': brats-1, brats-2, busi",
        ),
        ({"client": "brats-1"}, FlamesError, r"modality US → MRI"),
        (
            {"client": None, "shard": "server-US.h5"},
            FlamesError,
            "server-US.h5 has test patients of the server only, expected the shard of a client",
        ),
    ],
)
def test_wrong_inputs_are_named_before_anything_is_made(options, error, message, root, monkeypatch):
    monkeypatch.chdir(root / "partitions/default/shards")
    with pytest.raises(error, match=message):
        run(root, name="new", **options)
    assert not (root / "models" / "new").exists()


def test_every_difference_in_the_preparation_is_named(root):
    info, weights = read_model(root / "models" / "us")
    image = replace(info.input, size=64, channels=3, intensities=(IntensityRule(window=(0.0, 9.0)),))
    other = replace(info.architecture, options={**info.architecture.options, "in_channels": 3})
    write_model(
        root / "models" / "other",
        replace(info, name="other", input=image, architecture=other),
        weights,
        "card",
    )
    with pytest.raises(FlamesError, match=r"size 64 → 32; channels 3 → 1"):
        run(root, model="other")


def test_nothing_is_overwritten(root):
    run(root)
    before = (root / "models/us-busi/weights.safetensors").read_bytes()
    with pytest.raises(FlamesError, match="us-busi exists already, expected a new model"):
        run(root, epochs=2)
    assert (root / "models/us-busi/weights.safetensors").read_bytes() == before


def test_an_interrupted_adaptation_leaves_nothing(root, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "adapt_model", stop)
    with pytest.raises(KeyboardInterrupt):
        run(root)
    assert [path.name for path in (root / "models").glob("*/")] == ["us"]


def test_a_model_that_has_seen_the_test_patients_is_refused(root):
    partition(PartitionConfig(workspace=root, name="f1", split={"brats": 2}, fold="1/3"))
    with pytest.raises(FlamesError, match="was trained on partition 'default', which has"):
        run(root, partition="f1")


def test_an_unknown_organ_is_noted(root):
    info, weights = read_model(root / "models" / "us")
    image = replace(info.input, organs=("ovary",))
    write_model(root / "models" / "other", replace(info, name="other", input=image), weights, "card")
    made = run(root, model="other")
    assert any("was trained on ovary and not on breast" in note for note in made.notes)
    assert made.info.input.organs == ("breast",)
