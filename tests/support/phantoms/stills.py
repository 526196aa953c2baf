"""Phantoms in the layouts of still images: PolypGen, sliced LiTS, Kvasir-SEG, CVC-ClinicDB, TCGA-LGG.

Patient i of a seed is the same however many patients are drawn, and the same seed gives the same bytes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.demo_data.layouts import APPLE_DOUBLE
from flames_cli.errors import FlamesError
from tests.support.phantoms.scenes import Frame, draw_colon, draw_glioma, draw_liver

TINTS = {"C1": (0.95, 0.5, 0.38), "C3": (0.85, 0.55, 0.5), "C4": (0.98, 0.62, 0.42)}
"""Colour of the colon's wall in each centre's light: red, green, blue."""

LITS_CENTRES = 3
LGG_SITES = ("CS", "DU", "HT")
FRAMES = 2
"""Number of frames per patient in data sets that name patients or sequences."""


def draw_polypgen(root: Path, patients: int, seed: int) -> Path:
    """Draw three centres of `PolypGen2021_MultiCenterData_v3/` under `root`.

    C1 and C4 name patients and have two frames of each; C3 counts frames, and the first of its images has the
    real data set's superfluous underscore. Returns the download's folder; files of the same name are
    replaced. Raises FlamesError for fewer than 1 patient.
    """
    _require(patients)
    folder = root / "PolypGen2021_MultiCenterData_v3"
    for index in range(patients):
        site = tuple(TINTS)[index % len(TINTS)]
        rng = derive_rng(seed, "phantom", "polypgen", index)
        frames = draw_colon(rng, _area(rng, 0.012, 0.2), TINTS[site], 1 if site == "C3" else FRAMES)
        for number, frame in enumerate(frames):
            stem = _polypgen_stem(site, index, number)
            image = stem + "_" if index == 1 else stem
            images, masks = (folder / f"data_{site}" / f"{kind}_{site}" for kind in ("images", "masks"))
            _save_pair(frame, images / f"{image}.jpg", masks / f"{stem}_mask.jpg")
            _save_junk(masks, f"._{stem}_mask.jpg")
        _save_junk(folder / f"data_{site}" / f"bbox_{site}", ".DS_Store")
    return folder


def _polypgen_stem(site: str, index: int, number: int) -> str:
    if site == "C1":
        return f"{101 + index}OLCV1_100H{number + 2:04d}"
    return f"C3_EndoCV2021_{index:05d}" if site == "C3" else f"{index}_endocv2021_positive_{34 + number}"


def draw_lits_slices(root: Path, patients: int, seed: int) -> Path:
    """Draw `data_lits/` under `root`: three slices of every volume, volumes in three centres.

    Returns the folder; files of the same name are replaced. Raises FlamesError for fewer than 1 patient.
    """
    _require(patients)
    folder = root / "data_lits"
    for index in range(patients):
        site = f"C{index % LITS_CENTRES + 1}"
        rng = derive_rng(seed, "phantom", "lits-slices", index)
        for number, frame in enumerate(draw_liver(rng, _area(rng, 0.005, 0.06), slices=3)):
            images, masks = (folder / f"data_{site}" / f"{kind}_{site}" for kind in ("images", "masks"))
            name = f"{index}_slice{60 + 2 * number}.jpg"
            _save_pair(frame, images / f"image{name}", masks / f"mask{name}")
            _save_junk(images, "Thumbs.db")
    return folder


def draw_kvasir(root: Path, patients: int, seed: int) -> Path:
    """Draw `Kvasir-SEG/` under `root`: one image per patient, as JPEG with a JPEG mask.

    Returns the download's folder; files of the same name are replaced. Raises FlamesError for fewer than 1
    patient.
    """
    _require(patients)
    folder = root / "Kvasir-SEG"
    for index in range(patients):
        rng = derive_rng(seed, "phantom", "kvasir", index)
        (frame,) = draw_colon(rng, _area(rng, 0.012, 0.25), (0.95, 0.55, 0.42))
        name = f"cju{index:04d}phantom.jpg"
        _save_pair(frame, folder / "images" / name, folder / "masks" / name)
    _save_junk(folder, "kavsir_bboxes.json", b"{}\n")
    return folder


def draw_cvc(root: Path, patients: int, seed: int) -> Path:
    """Draw `CVC-ClinicDB/` under `root` as on Kaggle: `PNG/`, `TIF/` and `metadata.csv`.

    A patient is a sequence of two frames. Returns the download's folder; files of the same name are replaced.
    Raises FlamesError for fewer than 1 patient.
    """
    _require(patients)
    folder = root / "CVC-ClinicDB"
    rows = ["frame_id,sequence_id,png_image_path,png_mask_path,tif_image_path,tif_mask_path"]
    for index in range(patients):
        rng = derive_rng(seed, "phantom", "cvc-clinicdb", index)
        frames = draw_colon(rng, _area(rng, 0.012, 0.2), (0.9, 0.45, 0.32), FRAMES)
        for number, frame in enumerate(frames, start=1 + FRAMES * index):
            paths = [f"{kind.upper()}/{sub}/{number}.{kind}" for kind in ("png", "tif") for sub in _CVC_SUBS]
            _save_pair(frame, folder / paths[0], folder / paths[1])
            _save_pair(frame, folder / paths[2], folder / paths[3])
            rows.append(",".join([str(number), str(index + 1), *paths]))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


_CVC_SUBS = ("Original", "Ground Truth")


def draw_lgg(root: Path, patients: int, seed: int) -> Path:
    """Draw `kaggle_3m/` under `root`: every slice of one brain per patient; outer masks are empty.

    Returns the download's folder; files of the same name are replaced. Raises FlamesError for fewer than 1
    patient.
    """
    _require(patients)
    folder = root / "kaggle_3m"
    for index in range(patients):
        rng = derive_rng(seed, "phantom", "lgg", index)
        name = f"TCGA_{LGG_SITES[index % len(LGG_SITES)]}_{4941 + index}_19960909"
        for number, frame in enumerate(draw_glioma(rng, _area(rng, 0.01, 0.2)), start=1):
            stem = folder / name / f"{name}_{number}"
            _save_pair(frame, stem.with_name(stem.name + ".tif"), stem.with_name(stem.name + "_mask.tif"))
    _save_junk(folder, "data.csv", b"Patient,RNASeqCluster\n")
    _save_junk(folder, "README.md", b"Phantoms\n")
    return folder


def _require(patients: int) -> None:
    if patients < 1:
        raise FlamesError(f"phantoms: patients is {patients}, expected at least 1; ask for more.")


def _area(rng: np.random.Generator, least: float, most: float) -> float:
    """Draw a lesion's share of the image, log-uniform."""
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def _save_pair(frame: Frame, image: Path, mask: Path) -> None:
    _save(Image.fromarray(frame.image), image)
    _save(Image.fromarray(frame.mask * np.uint8(255)), mask)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=92)  # Only JPEG heeds it.


def _save_junk(folder: Path, name: str, content: bytes = APPLE_DOUBLE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
