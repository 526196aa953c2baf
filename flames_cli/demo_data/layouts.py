"""Small synthetic data sets in the raw layouts of the real ones, for `flames demo` and for tests.

The same seed gives the same bytes; patient i of a seed does not depend on the number of patients drawn.
Lesion areas are spread log-uniformly over a factor of 50 in each data set.
"""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.rng import derive_rng
from flames_cli.demo_data.brain import FIELD_MM, draw_brain
from flames_cli.demo_data.ultrasound import Scan, draw_breast, draw_ovary
from flames_cli.errors import FlamesError

AREA_RANGE = 50.0
LARGEST_AREA = {"brats": 0.25, "busi": 0.25, "otu2d": 0.22}
"""Share of the largest lesion in the head (brats) or in the image (ultrasound)."""

ODD_PATIENT = 7
"""Index of the patient that tests the readers: a copy in BUSI, an image without a lesion in OTU_2d."""

JUNK_VARIANTS = 3
"""Number of OTU_2d images that also have the real download's files that are not binary masks."""

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(188)


def draw_brats(root: Path, patients: int, seed: int, size: int = 96, slices: int = 24) -> Path:
    """Draw MSD `Task01_BrainTumour/` under `root`: volumes of size×size×slices voxels over `FIELD_MM`.

    Images contain FLAIR and T1w (last axis), int16 in each patient's own scanner units; labels 0 to 3. Every
    third patient is stored with LPS axes, the others RAS. Existing files are replaced.

    Returns:
        The folder of the data set.

    Raises:
        FlamesError: fewer than 1 patient, 32 pixels or 8 slices.
    """
    _require("patients", patients, 1)
    _require("size", size, 32)
    _require("slices", slices, 8)
    folder = root / "Task01_BrainTumour"
    names = [f"BRATS_{index + 1:03d}.nii.gz" for index in range(patients)]
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        _write_brats_patient(folder, name, seed, index, (size, size, slices))
    (folder / "dataset.json").write_text(json.dumps(_msd_index(names), indent=2) + "\n", encoding="utf-8")
    return folder


def draw_busi(root: Path, patients: int, seed: int, normals: int = 4) -> Path:
    """Draw `Dataset_BUSI_with_GT/` under `root`: `patients` images with a lesion and `normals` without.

    Two of three are benign; patients 1, 4, 7… (counted from 0) are malignant. Like the real data set, it has
    a copy in another class: patient 7, `malignant (3)`, has the pixels and masks of `benign (1)`; this needs
    at least 8 patients. Existing files are replaced.

    Returns:
        The folder of the data set.

    Raises:
        FlamesError: fewer than 1 patient or 0 normals.
    """
    _require("patients", patients, 1)
    _require("normals", normals, 0)
    folder = root / "Dataset_BUSI_with_GT"
    for kind in ("benign", "malignant", "normal"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    counts = {"benign": 0, "malignant": 0}
    for index in range(patients):
        kind = _busi_kind(index)
        counts[kind] += 1
        _write_busi_scan(folder / kind / f"{kind} ({counts[kind]})", _busi_scan(seed, index))
    for index in range(normals):
        scan = draw_breast(derive_rng(seed, "phantom", "busi-normal", index), "normal", 0.0)
        _write_busi_scan(folder / "normal" / f"normal ({index + 1})", scan)
    return folder


def draw_otu2d(root: Path, patients: int, seed: int) -> Path:
    """Draw `OTU_2d/` under `root`: `images/N.JPG` and `annotations/N_binary.PNG` (0 and 1), N from 1.

    The first three also have the colour masks and second copies of masks of the real download. Patient 7
    (counted from 0: `8.JPG`) has no lesion and an empty mask. Existing files are replaced.

    Returns:
        The folder of the data set.

    Raises:
        FlamesError: fewer than 1 patient.
    """
    _require("patients", patients, 1)
    folder = root / "OTU_2d"
    for sub in ("images", "annotations"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for index in range(patients):
        area = 0.0 if index == ODD_PATIENT else lesion_area(seed, "otu2d", index)
        scan = draw_ovary(derive_rng(seed, "phantom", "otu2d", index), area)
        _write_otu2d_scan(folder, index, scan)
    return folder


def lesion_area(seed: int, dataset: str, index: int) -> float:
    """Return the share of patient `index`'s lesion in the head or image, log-uniform over a factor of 50.

    Golden-ratio steps from a random start (a Weyl sequence) fill the range evenly for any number of patients.
    """
    start = derive_rng(seed, "phantom", dataset, "areas").random()
    position = (start + index * (np.sqrt(5.0) - 1.0) / 2.0) % 1.0
    return float(LARGEST_AREA[dataset] * AREA_RANGE ** (position - 1.0))


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise FlamesError(f"phantoms: {name} is {value}, expected at least {least}; ask for more.")


def _write_brats_patient(folder: Path, name: str, seed: int, index: int, shape: tuple[int, int, int]) -> None:
    rng = derive_rng(seed, "phantom", "brats", index)
    brain = draw_brain(rng, shape, lesion_area(seed, "brats", index))
    units = np.exp(rng.uniform(np.log(200.0), np.log(1500.0), 2))
    image = np.round(np.stack([brain.flair, brain.t1], axis=-1) * units).astype(np.int16)
    lps = index % 3 == 2
    write_nifti(folder / "imagesTr" / name, image, lps)
    write_nifti(folder / "labelsTr" / name, brain.labels, lps)
    (folder / "imagesTr" / f"._{name}").write_bytes(APPLE_DOUBLE)


def write_nifti(path: Path, volume: Pixels, lps: bool) -> None:
    """Store a volume drawn in RAS; `lps` flips its first two axes and adapts the affine."""
    signs = np.array([-1.0, -1.0, 1.0] if lps else [1.0, 1.0, 1.0])
    spacing = signs * np.divide(FIELD_MM, volume.shape[:3])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(volume.shape[:3]) - 1) / 2
    image = nib.Nifti1Image(volume[::-1, ::-1] if lps else volume, affine)
    image.header.set_xyzt_units("mm", "sec")
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _msd_index(names: list[str]) -> dict[str, object]:
    return {
        "name": "BRATS",
        "description": "Synthetic phantoms in the layout of MSD Task01_BrainTumour",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }


def _busi_kind(index: int) -> str:
    return "malignant" if index % 3 == 1 else "benign"


def _busi_scan(seed: int, index: int) -> Scan:
    drawn = 0 if index == ODD_PATIENT else index
    rng = derive_rng(seed, "phantom", "busi", drawn)
    return draw_breast(rng, _busi_kind(drawn), lesion_area(seed, "busi", drawn))


def _write_busi_scan(stem: Path, scan: Scan) -> None:
    """Write the image as RGB, as published, the first mask in 8-bit grey and a second mask in 1 bit."""
    _save_image(Image.fromarray(scan.image).convert("RGB"), stem, ".png")
    for number, mask in enumerate(scan.masks):
        picture = Image.fromarray(mask * np.uint8(255))
        suffix = f"_mask_{number}.png" if number else "_mask.png"
        _save_image(picture.convert("1") if number else picture, stem, suffix)


def _write_otu2d_scan(folder: Path, index: int, scan: Scan) -> None:
    number = str(index + 1)
    mask = scan.masks[0]
    _save_image(Image.fromarray(scan.image).convert("RGB"), folder / "images" / number, ".JPG")
    _save_image(Image.fromarray(mask), folder / "annotations" / number, "_binary.PNG")
    if index < JUNK_VARIANTS:
        _save_image(Image.fromarray(_coloured(mask)), folder / "annotations" / number, ".PNG")
        _save_image(Image.fromarray(mask), folder / "annotations" / number, "_binary_binary.PNG")


def _coloured(mask: Mask) -> NDArray[np.uint8]:
    return mask[..., None] * np.array([128, 0, 0], np.uint8)


def _save_image(picture: Image.Image, stem: Path, suffix: str) -> None:
    options = {"format": "JPEG", "quality": 92} if suffix == ".JPG" else {"format": "PNG"}
    picture.save(stem.with_name(stem.name + suffix), **options)
