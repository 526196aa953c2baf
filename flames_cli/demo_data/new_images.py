"""Images of patients who are in no data set, with their true masks, to try `flames predict` on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.rng import derive_rng
from flames_cli.demo_data.brain import draw_brain
from flames_cli.demo_data.layouts import LARGEST_AREA, write_nifti
from flames_cli.demo_data.ultrasound import draw_breast, draw_ovary

BRAIN_SHAPE = (96, 96, 16)
UNITS = 900.0
"""Factor from the drawn intensities to those of the scanner."""

SHARE = 0.4
"""Lesion area as a share of the largest one of its data set."""


def draw_new_images(images: Path, masks: Path, seed: int) -> list[Path]:
    """Draw a brain MRI (NIfTI), a breast ultrasound (PNG) and an ovary ultrasound (JPEG).

    The scans are drawn like those of the data sets, with random generators of their own.

    Args:
        images: folder of the images.
        masks: folder of the masks, under the names of their images.
        seed: seed of the demo.

    Returns:
        The images: brain, breast, ovary.
    """
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    brain_rng = derive_rng(seed, "phantom", "new", "brain")
    brain = draw_brain(brain_rng, BRAIN_SHAPE, SHARE * LARGEST_AREA["brats"])
    write_nifti(images / "brain.nii.gz", np.round(brain.flair * UNITS).astype(np.int16), lps=True)
    write_nifti(masks / "brain.nii.gz", (brain.labels > 0).astype(np.uint8), lps=True)
    breast_rng = derive_rng(seed, "phantom", "new", "breast")
    breast = draw_breast(breast_rng, "benign", SHARE * LARGEST_AREA["busi"])
    ovary = draw_ovary(derive_rng(seed, "phantom", "new", "ovary"), SHARE * LARGEST_AREA["otu2d"])
    _write_still(images / "breast.png", masks, breast.image, breast.masks)
    _write_still(images / "ovary.jpg", masks, ovary.image, ovary.masks)
    return [images / name for name in ("brain.nii.gz", "breast.png", "ovary.jpg")]


def _write_still(path: Path, masks: Path, image: Pixels, lesions: Sequence[Mask]) -> None:
    options = {"format": "JPEG", "quality": 92} if path.suffix == ".jpg" else {"format": "PNG"}
    Image.fromarray(image).save(path, **options)
    mask = np.maximum.reduce(lesions) * np.uint8(255)
    Image.fromarray(mask).save(masks / f"{path.stem}.png", format="PNG")
