"""A stored mask can go back to its volume: spacing, orientation and place are kept with each case."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.geometry import from_square
from flames_cli.core.imaging.volumes import restore_volume
from flames_cli.core.splits import SETS
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import read_set
from flames_cli.store.h5 import open_checked
from flames_cli.store.schema import PREPROCESSED
from tests.support.datasets import find_shared, reveal_cases


def stored_masks(path: Path) -> dict[str, list]:
    """Return (mask in raw size, case) of every slice of a preprocessed file, by volume."""
    volumes: dict[str, list] = {}
    known = reveal_cases(path)
    with open_checked(path, PREPROCESSED) as file:
        for name in SETS:
            for case, mask in zip(known[name], read_set(file[name]).masks, strict=True):
                volume = case.case.rpartition("/")[0]
                volumes.setdefault(volume, []).append((from_square(mask, *case.raw_shape), case))
    return volumes


def restored(slices: list) -> np.ndarray:
    return restore_volume({case.place.index: mask for mask, case in slices}, slices[0][1].place)


@pytest.mark.parametrize(
    ("dataset", "plane"), [("brats", "axial"), ("kits23", "coronal"), ("msd-liver", "sagittal")]
)
def test_masks_of_phantoms_go_back_voxel_by_voxel(dataset, plane, phantom_raw, tmp_path):
    """Some of them are stored as LPS, some with the slices first."""
    config = PreprocessConfig(
        workspace=tmp_path, raw={dataset: phantom_raw[dataset]}, size=64, plane=plane, slices="all"
    )
    preprocess(config, dataset)
    tumour = {"brats": {1, 2, 3, 4}, "kits23": {2}, "msd-liver": {2}}[dataset]
    volumes = stored_masks(tmp_path / "preprocessed" / f"{dataset}.h5")
    assert len(volumes) > 5
    for name, slices in volumes.items():
        truth = label_file(phantom_raw[dataset], dataset, name)
        assert slices[0][1].place.axes == "".join(nib.aff2axcodes(truth.affine))
        np.testing.assert_allclose(slices[0][1].place.affine, truth.affine.ravel(), atol=1e-4)
        np.testing.assert_array_equal(restored(slices), np.isin(np.asanyarray(truth.dataobj), list(tumour)))


def label_file(root: Path, dataset: str, name: str) -> nib.Nifti1Image:
    pattern = {
        "brats": f"labelsTr/{name}.nii.gz",
        "msd-liver": f"labelsTr/{name}.nii.gz",
        "kits23": f"**/{name}/segmentation.nii.gz",
    }[dataset]
    (path,) = root.glob(pattern)
    return nib.load(path)


def test_masks_of_real_volumes_go_back_voxel_by_voxel(tmp_path):
    root = find_shared("data/sts")
    config = PreprocessConfig(workspace=tmp_path, raw={"manifest": root}, slices="all", server_test=0.2)
    for report in preprocess(config, "manifest"):
        volumes = stored_masks(tmp_path / "preprocessed" / report["file"])
        assert len(volumes) == 5
        for name, slices in volumes.items():
            truth = nib.load(root / name.replace("_image", "_mask"))
            np.testing.assert_array_equal(restored(slices), np.asanyarray(truth.dataobj) > 0)
