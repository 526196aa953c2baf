"""Every mistake that a user can make: its exit code, its one line, and nothing half made."""

import re
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.asserts import results_in, snapshot
from tests.support.command_line import SMALL_FEDERATION

PREPROCESS = ("preprocess", "--dataset")
BUSI = (*PREPROCESS, "busi")

WRONG = {
    # name: (exit code, what the line says, command)
    "no data set": (2, "no data set was named; pass --dataset NAME", ("preprocess",)),
    "unknown data set": (2, "'lung' is not known (did you mean msd-lung?)", (*PREPROCESS, "lung")),
    "unknown data set's list": (2, "choose one of brats, busi", (*PREPROCESS, "lung")),
    "unknown second": (2, "'lung' is not known", (*BUSI, "--dataset", "lung")),
    "raw of two": (2, "of one data set, got 2", (*BUSI, "--dataset", "otu2d", "--raw", "x")),
    "raw of none": (2, "--dataset manifest for your own data", ("preprocess", "--raw", "x")),
    "no raw folder": (2, "no folder gone: expected the raw busi data", (*BUSI, "--raw", "gone")),
    "no default raw": (2, "flames-workspace/raw/busi", BUSI),
    "size": (2, "size: input should be greater than or equal to 16 (got 8)", (*BUSI, "--size", 8)),
    "huge size": (2, "size: input should be less than", (*BUSI, "--size", 10**12)),
    "negative share": (2, "server_test: input should be", (*BUSI, "--server-test", -1)),
    "NaN share": (2, "server_test: input should be a finite", (*BUSI, "--server-test", "nan")),
    "whole share": (2, "test_fraction: input should be less than 1", (*BUSI, "--test-fraction", 1)),
    "workers": (2, "workers: ", (*BUSI, "--workers", -1)),
    "huge seed": (2, "seed: input should be less than", (*BUSI, "--seed", 2**63)),
    "not preprocessed": (3, "make one with `flames preprocess --dataset NAME`", ("partition",)),
    "split without number": (2, "--split got 'a', expected NAME=VALUE", ("partition", "--split", "a")),
    "split without name": (2, "--split got ' =3', expected NAME=VALUE", ("partition", "--split", " =3")),
    "split of words": (2, "split.brats: input should be a valid int", ("partition", "--split", "brats=x")),
    "split of a half": (2, "split.brats: input should be a valid int", ("partition", "--split", "brats=2.5")),
    "split in none": (2, "split.brats: input should be greater", ("partition", "--split", "brats=0")),
    "split by centre": (2, "split.brats: input should be", ("partition", "--split", "brats=centre")),
    "fold of words": (2, "fold: input should be K/N", ("partition", "--fold", "first")),
    "no skew": (2, "skew: input should be greater than 0", ("partition", "--skew", 0)),
    "site without data set": (2, "--hold-out-site got 'C6'", ("partition", "--hold-out-site", "C6")),
    "all validation": (2, "val_fraction: input should be less", ("partition", "--val-fraction", 1)),
    "not partitioned": (3, "make it with `flames partition`", ("federate",)),
    "rounds": (2, "rounds: input should be greater than or equal to 1 (got 0)", ("federate", "--rounds", 0)),
    "strategy": (2, "'median' is not known; choose one of flames", ("federate", "--strategy", "median")),
    "device": (2, "device: input should be 'auto', 'cpu', 'cuda' or 'mps'", ("federate", "--device", "tpu")),
    "precision": (2, "precision: input should be", ("federate", "--precision", "fp8")),
    "rate of words": (2, "lr: input should be a valid number", ("federate", "--lr", "fast")),
    "rate of nothing": (2, "lr: input should be a valid number", ("federate", "--lr", "")),
    "rate zero": (2, "lr: input should be greater than 0 (got 0)", ("federate", "--lr", 0)),
    "rate beyond floats": (2, "lr: input should be less", ("federate", "--lr", 1e300)),
    "rate of a modality": (2, "--lr got 'US=', expected NAME=VALUE", ("federate", "--lr", "US=")),
    "negative rate": (2, "lr_by_modality.US: input", ("federate", "--lr", "US=-1")),
    "model option": (2, "--model-option got 'depth', expected", ("federate", "--model-option", "depth")),
    "option of words": (2, "model_options.depth: input", ("federate", "--model-option", "depth=two")),
    "infinite option": (2, "model_options.dropout: input", ("federate", "--model-option", "dropout=inf")),
    "run elsewhere": (2, "run: a name should have at most 64 letters, digits", ("federate", "--run", "../x")),
    "evaluate nothing": (3, "make it with `flames federate`", ("evaluate",)),
    "map of nothing": (3, "make it with `flames partition`", ("tsne",)),
    "features": (2, "features: input should be 'pixels' or 'deep'", ("tsne", "--features", "colour")),
    "perplexity": (2, "perplexity: input should be greater than 1", ("tsne", "--perplexity", 1)),
    "few images": (2, "max_images: input should be greater", ("tsne", "--max-images", 3)),
    "no configuration": (2, "no configuration gone.toml; check --config", ("tsne", "--config", "gone.toml")),
    "tiny demo": (2, "size: input should be greater", ("demo", "--size", 8)),
    "unknown option": (2, "no such option", ("federate", "--epochs", 3)),
    "unknown command": (2, "no such command 'train'", ("train",)),
    "mistyped command": (2, "Did you mean 'federate'?; see `flames --help`", ("fedrate",)),
    "not a number": (2, "invalid value for '--rounds'", ("federate", "--rounds", "many")),
    "no value": (2, "option '--rounds' requires an argument", ("federate", "--rounds")),
    "one word more": (2, "got unexpected extra argument (now); see `flames info --help`", ("info", "now")),
    "option before": (2, "no such option", ("--rounds", "3", "federate")),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_one_line_with_its_exit_code(what, error_line, tmp_path):
    code, says, command = WRONG[what]
    message = error_line(*command, code=code)
    assert says in message
    assert message.count("Did you mean") <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["no data set", "not partitioned", "rounds", "not a number"])
def test_a_mistake_is_json_where_that_is_asked_for(what, error_line):
    code, says, command = WRONG[what]
    assert says in error_line(*command, "--json", code=code)


def test_all_mistakes_are_reported_together(error_line):
    message = error_line("federate", "--rounds", 0, "--lr", -1, "--device", "tpu", "--dice-weight", 7)
    assert {part.split(":")[0] for part in message.split("; ")} == {"rounds", "lr", "dice_weight", "device"}


def test_a_configuration_file_is_checked_whole(error_line, tmp_path):
    file = tmp_path / "flames.toml"
    file.write_text("[federate]\nrounds = 0\n[tsne]\ncolour = 'red'\n")
    message = error_line("partition", "--config", file)
    assert message.startswith(f"{file}: federate.rounds: ")
    assert "tsne.colour: extra inputs are not permitted" in message
    file.write_text("[federate\n")
    assert "cannot be read as TOML" in error_line("partition", "--config", file)
    assert "cannot be read as TOML" in error_line("partition", "--config", tmp_path)


@pytest.mark.parametrize("command", ["partition", "federate", "evaluate", "tsne", "demo", "info"])
def test_a_file_is_no_workspace(command, error_line, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert error_line(command, "--workspace", file) == (
        f"{file} is a file, expected the workspace's folder; check --workspace"
    )
    assert file.read_text() == "mine"


def test_raw_data_that_are_a_file_or_an_empty_folder_are_rejected(error_line, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "no folder file" in error_line(*BUSI, "--raw", "file")
    assert "no busi images in empty: expected " in error_line(*BUSI, "--raw", "empty")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def narrow(path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(path))[:, 1:]).save(path)


def colour(path: Path) -> None:
    pixels = np.array(Image.open(path))
    pixels[0, 0] = 38
    Image.fromarray(pixels).save(path)


BAD = {
    "corrupt": ("busi", "benign/benign (2).png", cut, "cannot be read as an image"),
    "no mask": ("busi", "benign/benign (2)_mask.png", Path.unlink, "no mask"),
    "narrower mask": ("busi", "benign/benign (2)_mask.png", narrow, "the mask is"),
    "unknown label": ("otu2d", "annotations/3_binary.PNG", colour, "38"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_case_stops_unless_it_may_be_left_out(what, error_line, flames, raw_copy, tmp_path):
    name, file, damage, says = BAD[what]
    raw = raw_copy(name)
    damage(raw / file)
    made = tmp_path / "made"
    command = (*PREPROCESS, name, "--raw", raw, "--size", 32, "--workspace", made)
    message = error_line(*command)
    assert message.startswith(f"{name} has 1 bad case: ")
    assert says in message
    assert message.endswith("Correct them, or leave them out with --skip-bad")
    assert results_in(made) == []
    result = flames(*command, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "left out 1 bad case" in result.stdout
    assert says not in result.stdout
    assert says in (made / "private" / f"{name}.csv").read_text(encoding="utf-8")


def test_too_large_a_share_for_the_server_is_rejected(error_line, phantom_raw, tmp_path):
    message = error_line(*PREPROCESS, "otu2d", "--raw", phantom_raw["otu2d"], "--server-test", 1000)
    assert "--server-test asks for 1000 of 15 otu2d images" in message
    assert results_in(tmp_path / "flames-workspace") == []


def test_existing_output_stays_unless_overwriting_is_asked_for(error_line, flames, workspace, phantom_raw):
    space = workspace()
    preprocess = (*BUSI, "--raw", phantom_raw["busi"], "--size", 32, "--workspace", space)
    for command in (preprocess, ("partition", "--workspace", space)):
        before = snapshot(space)
        assert re.search("exists already.*; pass --overwrite to make it again", error_line(*command))
        assert snapshot(space) == before
        assert flames(*command, "--overwrite").exit_code == 0


def test_a_partition_that_cannot_be_made_leaves_the_old_one(error_line, workspace):
    space = workspace()
    before = snapshot(space)
    at = ("--overwrite", "--workspace", space)
    assert "too few for 400 clients; pass --split brats=" in error_line(
        "partition", "--split", "brats=400", *at
    )
    message = error_line("partition", "--split", "lits=2", *at)
    assert "'lits', which is not among the data sets brats, busi, otu2d" in message
    message = error_line("partition", "--dataset", "lungs", *at)
    assert (
        "'lungs' is not known; preprocessed are brats, busi, otu2d, and `flames preprocess` reads" in message
    )
    assert "brats=C9; the images of brats name no site" in error_line(
        "partition", "--hold-out-site", "brats=C9", *at
    )
    assert "fold: input should be K/N" in error_line("partition", "--fold", "3/2", *at)
    message = error_line("partition", "--dataset", "busi", "--split", "brats=2", *at)
    assert "'brats', which is not among the data sets busi" in message
    assert snapshot(space) == before


def test_data_sets_of_different_sizes_are_rejected(error_line, flames, workspace, phantom_raw):
    space = workspace()
    at = ("--overwrite", "--workspace", space)
    flames(*BUSI, "--raw", phantom_raw["busi"], "--size", 48, *at)
    message = error_line("partition", *at)
    assert "brats 32, busi 48, otu2d 32" in message
    assert "one --size" in message


UNET = ("--model", "unet", "--model-option")

FEDERATIONS = {
    "model": (("--model", "vit"), "choose one of densenet-unet, unet, utnet, sd-utnet, sdnet"),
    "option": ((*UNET, "heads=2"), "unknown option 'heads' of model unet: it has in_channels"),
    "value": ((*UNET, "depth=0"), "depth = 0 of model unet: expected 1 or more"),
    "modality": (("--lr", "CT=1e-3"), "--lr names 'CT', expected a modality or a client, one of MRI, US"),
    "device": (("--device", "cuda"), "no device cuda here: this machine has "),
    "weights": (("--encoder-weights", "gone.pth"), "no weights file gone.pth"),
}  # fmt: skip


@pytest.mark.parametrize("what", FEDERATIONS)
def test_a_federation_that_cannot_start_leaves_nothing(what, error_line, workspace, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options, says = FEDERATIONS[what]
    space = workspace()
    before = snapshot(space)
    assert says in error_line("federate", *options, "--workspace", space)
    assert snapshot(space) == before


def test_without_the_imagenet_weights_the_other_ways_are_named(error_line, workspace, monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    space = workspace()
    message = error_line("federate", "--workspace", space)
    assert message.startswith("cannot download the ImageNet weights (<urlopen error no route to host>); put ")
    assert str(tmp_path / "hub") in message
    assert "--encoder-weights FILE (.safetensors, .pth or .pt), or --encoder-weights none" in message
    assert not (space / "runs").exists()


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_runs_that_do_not_fit_get_different_messages(error_line, flames, workspace):
    space = workspace()
    at = ("--workspace", space)
    assert "`flames federate`" in error_line("evaluate", *at, code=3)
    assert "`flames federate`" in error_line("tsne", "--features", "deep", *at, code=3)
    assert flames("federate", *SMALL_FEDERATION, "--rounds", 1, "--run", "first", *at).exit_code == 0
    before = snapshot(space)
    message = error_line("evaluate", "--run", "second", *at, code=3)
    assert f"no run 'second' in {space / 'runs'} (existing: first)" in message
    assert "run `flames compare RUN RUN`" in error_line("evaluate", "--compare", "second", *at)
    assert "(existing: first)" in error_line("tsne", "--features", "deep", "--run", "x", *at, code=3)
    message = error_line("federate", *SMALL_FEDERATION, "--seed", 4, "--rounds", 2, "--run", "first", *at)
    assert "run 'first' was made with other options (seed 0 → 4); pass --fresh" in message
    assert snapshot(space) == before
    assert flames("partition", "--overwrite", "--seed", 4, *at).exit_code == 0
    message = error_line("federate", *SMALL_FEDERATION, "--seed", 4, "--rounds", 2, "--run", "first", *at)
    was = "'default' as it was before, which is called 'default-old-1' now"
    assert f"(partition {was} → 'default'; " in message
    shutil.rmtree(partition_folder(space, "default-old-1"))
    assert "run 'first' was made on partition 'default' as it was before" in error_line("evaluate", *at)


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_images_too_small_for_the_model_are_rejected(error_line, workspace):
    deep = ("--model", "unet", "--model-option", "depth=6", "--model-option", "base_channels=1")
    message = error_line("federate", *deep, "--device", "cpu", "--workspace", workspace())
    assert "the images are 32×32, this unet needs 64×64; preprocess with a larger --size" in message


def test_a_damaged_partition_is_reported(error_line, workspace):
    space = workspace()
    partition_file(space).write_text("{")
    for command in ("federate", "tsne"):
        assert "cannot be read as JSON" in error_line(command, "--workspace", space)


def test_a_shard_that_is_gone_names_its_command(error_line, workspace):
    space = workspace()
    (partition_folder(space) / "shards" / "busi.h5").unlink()
    assert "`flames partition --overwrite`" in error_line("federate", "--workspace", space, code=3)


def test_a_folder_that_cannot_be_written_is_reported(error_line, phantom_raw, tmp_path):
    space = tmp_path / "space"
    space.mkdir()
    (space / "preprocessed").write_text("in the way")
    message = error_line(*BUSI, "--raw", phantom_raw["busi"], "--size", 32, "--workspace", space)
    assert "cannot be written: " in message
    shutil.rmtree(space)
