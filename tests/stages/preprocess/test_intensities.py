"""The rule of intensities is stored with the data, for each modality of a manifest."""

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.rng import derive_rng
from flames_cli.readers.formats.ranges import CT_WINDOW
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.h5 import read_preprocessed_cases, read_shard_cases

SIDE = 16


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Make a manifest with CT and MRI volumes and US stills of eight patients each."""
    folder = tmp_path_factory.mktemp("hospital")
    rows = [("image", "mask", "patient_id", "modality", "organ")]
    for number in range(24):
        modality = ("CT", "MRI", "US")[number % 3]
        shape = (SIDE, SIDE, *([3] if modality != "US" else []))
        pixels = derive_rng(0, "rules", number).integers(0, 255, shape).astype(np.int16)
        mask = np.zeros(shape, np.uint8)
        mask[4:12, 4:12] = 1
        names = [f"{kind}{number}.{'png' if modality == 'US' else 'nii'}" for kind in ("scan", "mask")]
        if modality == "US":
            Image.fromarray(pixels.astype(np.uint8)).save(folder / names[0])
            Image.fromarray(mask).save(folder / names[1])
        else:
            image = pixels - 120 if modality == "CT" else pixels
            nib.save(nib.Nifti1Image(image, np.eye(4)), folder / names[0])
            nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / names[1])
        rows.append((*names, f"P{number}", modality, "liver"))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


DEFAULT = {"ct": IntensityRule(CT_WINDOW), "mri": IntensityRule(), "us": IntensityRule()}
TYPED = {"window": {"CT": (-100.0, 100.0)}, "percentile": 99.0, "percentile_of": "foreground"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, DEFAULT),
        (
            TYPED,
            {
                "ct": IntensityRule((-100.0, 100.0)),
                "mri": IntensityRule(None, 99.0, "foreground"),
                "us": IntensityRule(None, 99.0, "foreground"),
            },
        ),
    ],
)
def test_each_modality_of_a_manifest_has_its_rule_also_in_shards(options, expected, hospital, tmp_path):
    config = PreprocessConfig(
        workspace=tmp_path, raw={"manifest": hospital}, size=SIDE, name="own", server_test=0, **options
    )
    preprocess(config, "manifest")
    partition(PartitionConfig(workspace=tmp_path))
    for kind, rule in expected.items():
        info, _ = read_preprocessed_cases(tmp_path / "preprocessed" / f"own-{kind}.h5")
        assert info.intensities == rule
        shard = read_shard_cases(tmp_path / "partitions" / "default" / "shards" / f"own-{kind}.h5")
        assert {one.intensities for one, _ in shard.values()} == {rule}
