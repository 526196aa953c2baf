"""Synthetic volumes in the raw layouts of the Decathlon's CT tasks, LiTS, KiTS23 and BraTS 2020 and 2021.

Patient i of a seed is the same however many patients are drawn, and the same seed gives the same bytes.
"""

import gzip
import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from flames_cli.arrays import Floats, Pixels
from flames_cli.core.imaging.volumes import from_ras, ras_order
from flames_cli.core.rng import derive_rng
from flames_cli.demo_data.brain import FIELD_MM, draw_brain
from tests.support.phantoms.trunks import KIDNEYS, LIVER, LUNGS, PANCREAS, SPACING_MM, Organ, draw_trunk

BRAIN_SHAPE = (40, 40, 12)
BRAIN_SPACING_MM = (FIELD_MM[0] / 40, FIELD_MM[1] / 40, FIELD_MM[2] / 12)
BRATS_LABELS = np.array([0, 2, 1, 4], np.uint8)
"""BraTS labels of the Decathlon's background, edema, core and enhancing tumour."""

HEALTHY = 7
"""Index of the LiTS patient without tumour: one in ten of the real ones has none."""
MISNAMED = 4
"""Index of the BraTS 2020 patient whose segmentation has the wrong name of the real patient 355."""
LITS_VOLUMES, LITS_STEP, LITS_BATCH_2 = 131, 11, 28
"""Numbers 0, 11, 22, …, so that few patients cover all centres; numbers from 28 are in the second folder."""

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(188)


def draw_msd(task: str, prefix: str, organ: Organ, root: Path, patients: int, seed: int) -> Path:
    """Draw `task` of the Decathlon under `root`; returns its folder. Every third patient has LPS axes."""
    folder = root / task
    names = [f"{prefix}_{index + 1:03d}.nii.gz" for index in range(patients)]
    for index, name in enumerate(names):
        hu, labels = draw_trunk(derive_rng(seed, "phantom", task, index), organ)
        axes = "LPS" if index % 3 == 2 else "RAS"
        _write(folder / "imagesTr" / name, hu, _affine(axes, hu.shape, SPACING_MM), axes)
        _write(folder / "labelsTr" / name, labels, _affine(axes, hu.shape, SPACING_MM), axes)
        (folder / "imagesTr" / f"._{name}").write_bytes(APPLE_DOUBLE)
    listed = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    index_text = json.dumps({"name": prefix, "modality": {"0": "CT"}, "training": listed}, indent=2)
    (folder / "dataset.json").write_text(index_text + "\n", encoding="utf-8")
    return folder


draw_msd_liver = partial(draw_msd, "Task03_Liver", "liver", LIVER)
draw_msd_lung = partial(draw_msd, "Task06_Lung", "lung", LUNGS)
draw_msd_pancreas = partial(draw_msd, "Task07_Pancreas", "pancreas", PANCREAS)


def draw_lits(root: Path, patients: int, seed: int) -> Path:
    """Draw `LITS/Training Batch 1` and `2` under `root`; returns `LITS`.

    Every third patient's volume is LAS while its segmentation, in the same order of voxels, has an identity
    with origin 1 for a header, as some of the real ones do.
    """
    folder = root / "LITS"
    for index in range(patients):
        number = LITS_STEP * index % LITS_VOLUMES + LITS_VOLUMES * (index // LITS_VOLUMES)
        batch = folder / f"Training Batch {1 if number < LITS_BATCH_2 else 2}"
        hu, labels = draw_trunk(derive_rng(seed, "phantom", "lits", index), LIVER, healthy=index == HEALTHY)
        axes = ("RAS", "LPS", "LAS")[index % 3]
        affine = _affine(axes, hu.shape, SPACING_MM)
        _write(batch / f"volume-{number}.nii", hu, affine, axes)
        _write(batch / f"segmentation-{number}.nii", labels, _matlab() if axes == "LAS" else affine, axes)
        (batch / f"._volume-{number}.nii").write_bytes(APPLE_DOUBLE)
    return folder


def draw_kits23(root: Path, patients: int, seed: int) -> Path:
    """Draw `dataset/case_00000/` and on under `root`, slices along the first axis; returns `dataset`."""
    folder = root / "dataset"
    for index in range(patients):
        case = folder / f"case_{index:05d}"
        hu, labels = draw_trunk(derive_rng(seed, "phantom", "kits23", index), KIDNEYS, cyst=index % 2 == 1)
        affine = _affine("IPL", hu.shape, SPACING_MM)
        _write(case / "imaging.nii.gz", hu, affine, "IPL")
        _write(case / "segmentation.nii.gz", labels, affine, "IPL")
        (case / "instances").mkdir(exist_ok=True)
    (folder / "kits23.json").write_text("[]\n", encoding="utf-8")
    return folder


def draw_brats2020(root: Path, patients: int, seed: int) -> Path:
    """Draw `MICCAI_BraTS2020_TrainingData/` under `root`; the fifth patient's segmentation is misnamed."""
    folder = root / "MICCAI_BraTS2020_TrainingData"
    for index in range(patients):
        _write_brain(folder / f"BraTS20_Training_{index + 1:03d}", "nii", "brats2020", index, seed)
    if patients > MISNAMED:
        case = folder / f"BraTS20_Training_{MISNAMED + 1:03d}"
        (case / f"{case.name}_seg.nii").replace(case / "W39_1998.09.19_Segm.nii")
    (folder / "name_mapping.csv").write_text("Grade,BraTS_2020_subject_ID\n", encoding="utf-8")
    return folder


def draw_brats2021(root: Path, patients: int, seed: int) -> Path:
    """Draw `BraTS2021_Training_Data/` under `root`, numbers with gaps as the real ones; returns it."""
    folder = root / "BraTS2021_Training_Data"
    for index in range(patients):
        _write_brain(folder / f"BraTS2021_{index + index // 2:05d}", "nii.gz", "brats2021", index, seed)
    return folder


def _write_brain(case: Path, suffix: str, dataset: str, index: int, seed: int) -> None:
    """Write FLAIR, T1 and segmentation, with LPS axes as in all of BraTS."""
    rng = derive_rng(seed, "phantom", dataset, index)
    brain = draw_brain(rng, BRAIN_SHAPE, 0.25 * 50.0 ** (rng.random() - 1.0))
    units = rng.uniform(300.0, 1200.0)
    voxels: dict[str, Pixels] = {
        "flair": np.round(brain.flair * units).astype(np.int16),
        "t1": np.round(brain.t1 * units).astype(np.int16),
        "seg": BRATS_LABELS[brain.labels],
    }
    for kind, volume in voxels.items():
        affine = _affine("LPS", volume.shape, BRAIN_SPACING_MM)
        _write(case / f"{case.name}_{kind}.{suffix}", volume, affine, "LPS")
    (case / f"._{case.name}_flair.{suffix}").write_bytes(APPLE_DOUBLE)


def _affine(axes: str, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Floats:
    """Return the affine from voxels (in the order of `axes`) to mm (RAS) of a volume centred at 0."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for ras, stored in enumerate(ras_order(axes)):
        step = spacing_mm[ras] * (1.0 if axes[stored] == "RAS"[ras] else -1.0)
        affine[ras, stored] = step
        affine[ras, 3] = -step * (shape[ras] - 1) / 2
    return affine


def _matlab() -> Floats:
    """Return the meaningless header of some LiTS segmentations: an identity with origin 1."""
    affine = np.eye(4)
    affine[:3, 3] = 1.0
    return affine


def _write(path: Path, volume: Pixels, affine: Floats, axes: str) -> None:
    """Store a volume drawn in RAS with the axis codes `axes` and the header `affine`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(from_ras(volume, axes), affine)
    image.header.set_xyzt_units("mm", "sec")
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content)
