"""Images without a lesion, from the manifest to the report of false positives."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import CheckConfig, PartitionConfig, PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions, SkippedCase, Source
from flames_cli.readers.manifest_table import SPLITS
from flames_cli.stages.check.stage import check
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.evaluations import read_case_scores
from tests.support.datasets import read_preprocessed_cases
from tests.support.stages import evaluate_run, federate_config

SIDE = 48
N_SICK, N_HEALTHY = 4, 2
"""Images of each split with a lesion, and without one."""


def draw(root: Path) -> Path:
    """Write a manifest with healthy controls in every split: a black mask, or the word none."""
    rows = []
    for split in SPLITS:
        for number in range(N_SICK + N_HEALTHY):
            name, rng = f"{split}-{number}", derive_rng(0, "healthy", split, number)
            pixels = rng.integers(20, 90, (SIDE, SIDE)).astype(np.uint8)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            if number < N_SICK:
                y, x = rng.integers(8, 30, 2)
                mask[y : y + 9, x : x + 9] = 255
                pixels[mask > 0] += 120
            Image.fromarray(pixels).save(root / f"{name}.png")
            Image.fromarray(mask).save(root / f"{name}_mask.png")
            cell = "none" if number == N_SICK else f"{name}_mask.png"
            rows.append((f"{name}.png", cell, name, "US", "breast", split))
    with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        columns = ("image", "mask", "patient_id", "modality", "organ", "split")
        csv.writer(stream).writerows([columns, *rows])
    return root


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("healthy"))


def prepare(workspace: Path, raw: Path, **options: object) -> dict:
    config = PreprocessConfig(workspace=workspace, raw={"manifest": raw}, name="us", size=32, **options)
    (report,) = preprocess(config, "manifest")
    return report


def read_findings(workspace: Path, raw: Path, **options: object) -> dict:
    named = {"datasets": ("manifest",), "raw": {"manifest": raw}, "name": "us", "size": 32}
    (report,) = check(CheckConfig(workspace=workspace, **named, **options))
    return {finding["code"]: finding for finding in report["findings"]}


def test_images_without_a_lesion_are_left_out_and_listed_unless_they_are_kept(raw, tmp_path):
    report = prepare(tmp_path, raw)
    reasons = sorted(entry["reason"] for entry in report["skipped"])
    assert reasons == 4 * ["the manifest states that there is no lesion"] + 4 * ["the mask is empty"]
    assert {name: counts["images"] for name, counts in report["sets"].items()} == dict.fromkeys(
        SPLITS.values(), N_SICK
    )


def test_kept_images_without_a_lesion_are_in_the_sets_of_their_patients(raw, tmp_path):
    report = prepare(tmp_path, raw, empty="keep")
    assert report["skipped"] == []
    assert report["options"]["empty"] == "keep"
    assert report["small_lesions"]["sets"]["client_train"]["none"] == N_HEALTHY
    _, sets = read_preprocessed_cases(tmp_path / "preprocessed" / "us.h5")
    for cases in sets.values():
        assert sorted(case.lesion_px > 0 for case in cases) == [False] * N_HEALTHY + [True] * N_SICK


def test_check_names_the_option_that_keeps_them(raw, tmp_path):
    found = read_findings(tmp_path, raw)
    assert "--empty keep" in found["empty-mask"]["fix"]
    assert found["empty-mask"]["severity"] == "note"


def test_check_lists_kept_images_with_empty_masks_that_the_table_does_not_call_healthy(raw, tmp_path):
    found = read_findings(tmp_path, raw, empty="keep")["empty-mask"]
    assert found["severity"] == "note"
    assert found["what"] == "4 images with an empty mask will be used without a lesion"
    assert [place["text"] for place in found["where"]] == [f"{split}-5.png" for split in SPLITS]


@pytest.fixture(scope="module")
def partitioned(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    prepare(folder, raw, empty="keep")
    partition(PartitionConfig(workspace=folder))
    return folder


@pytest.mark.parametrize("strategy", ["flames", "fedgs"])
def test_a_federation_trains_on_images_without_a_lesion_and_reports_false_positives(strategy, partitioned):
    federate(federate_config(partitioned, strategy=strategy))
    lines = (partitioned / "runs" / strategy / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [client["train_loss"] for line in lines for client in json.loads(line)["clients"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    result = evaluate_run(partitioned, strategy)
    cases = [case for case in read_case_scores(result.folder / "cases.csv") if case.lesion == "none"]
    for split, tables in result.tables.splits.items():
        own = [case for case in cases if case.split == split]
        assert len(own) == N_HEALTHY
        for row in tables.lesions:
            assert (row.healthy.n, row.healthy.n_patients) == (N_HEALTHY, N_HEALTHY)
            assert row.healthy.rate == np.mean([case.fp > 0 for case in own])
            assert row.healthy.found.false_positives_per_image() == np.mean(
                [c.lesions_predicted for c in own]
            )
            assert row.healthy.area == pytest.approx(1 - np.mean([case.pixel_accuracy for case in own]))
            assert row.sizes["all"].dice.n == N_HEALTHY + row.sizes["lesion"].dice.n


def blank(path: Path) -> None:
    """Make all values of a mask file 0."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine, image.header), path)
    else:
        with Image.open(path) as image:
            shape = image.height, image.width
        Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def read(reader, source: Source, **options) -> list:
    return reader.read_source(source, ReadOptions(keep_empty=True, **options))


@pytest.mark.parametrize("dataset", [name for name, reader in READERS.items() if reader.modality])
def test_every_reader_keeps_a_source_whose_mask_is_empty(dataset, raw_copy):
    reader = READERS[dataset]
    sources = [source for source in reader.list_sources(raw_copy(dataset)) if source.masks]
    chosen = next(source for source in sources if not source.is_healthy)
    for path in chosen.masks:
        blank(path)
    with pytest.raises(SkippedCase, match="the mask is empty"):
        reader.read_source(chosen, ReadOptions())
    cases = read(reader, chosen)
    assert cases
    assert not any(case.mask.any() for case in cases)
    if not reader.is_still:
        assert len(read(reader, chosen, slices="all")) >= len(cases)


def test_normal_images_of_busi_are_a_class_of_their_own(phantom_raw, tmp_path):
    counts = {}
    for empty in ("skip", "keep"):
        config = PreprocessConfig(
            workspace=tmp_path / empty, raw={"busi": phantom_raw["busi"]}, size=32, empty=empty
        )
        (report,) = preprocess(config, "busi")
        counts[empty] = report["sources"]
        _, sets = read_preprocessed_cases(tmp_path / empty / "preprocessed" / "busi.h5")
        classes = {case.stratum for cases in sets.values() for case in cases}
        assert ("normal" in classes) == (empty == "keep")
    normal = [source for source in READERS["busi"].list_sources(phantom_raw["busi"]) if source.is_healthy]
    assert counts["keep"] == counts["skip"] + len(normal) > counts["skip"]
