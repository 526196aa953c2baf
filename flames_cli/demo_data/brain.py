"""Schematic brain MRI with a tumour.

The tumour is bright in FLAIR, and so are some healthy structures: no single threshold finds all tumours.
These are teaching pictures, not anatomy. H W pixels, Z slices; x y z in mm towards right, anterior, superior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flames_cli.arrays import Floats, Mask
from flames_cli.demo_data.noise import smooth_noise

FIELD_MM = (196.0, 196.0, 152.0)
"""Extent of a brain volume: closer around the head than the MSD's 240×240×155, so that few pixels suffice."""

HEAD_MM = (70.0, 86.0, 72.0)
"""Half axes of the mean head."""

Flags = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Generator = np.random.Generator

BACKGROUND, GREY, WHITE, CSF, GLIOSIS, EDEMA, CORE, ENHANCING = range(8)
FLAIR_SIGNAL = (0.0, 0.56, 0.44, 0.12, 0.84, 0.86, 0.66, 0.78)
T1_SIGNAL = (0.0, 0.52, 0.78, 0.18, 0.50, 0.48, 0.32, 0.62)


@dataclass(frozen=True)
class Brain:
    """One brain: FLAIR and T1w, H×W×Z, with grey matter at about 0.6; labels 0..3 as in the MSD."""

    flair: Floats
    t1: Floats
    labels: Mask


def draw_brain(rng: Generator, shape: tuple[int, int, int], area: float) -> Brain:
    """Draw a head in (H, W, Z) voxels in RAS; the widest slice of its tumour is `area` of the head's."""
    spacing = np.divide(FIELD_MM, shape)
    xyz = _head_grid(rng, shape, spacing)
    wobble = smooth_noise(rng, shape, tuple(18.0 / spacing))
    depth_mm = 68.0 * (1.0 - np.sqrt(_squares(xyz, HEAD_MM)) * (1.0 + 0.025 * wobble))
    ventricles = _ventricle_distance(rng, xyz)
    tissue = _healthy_tissue(rng, xyz, depth_mm, ventricles, spacing)
    _add_bright_lookalikes(rng, tissue, xyz, depth_mm, ventricles)
    _add_tumour(rng, tissue, xyz, np.where(ventricles > 1.3, depth_mm, -1.0), spacing, area)
    labels = np.where(tissue >= EDEMA, tissue - GLIOSIS, BACKGROUND).astype(np.uint8)
    return Brain(_acquire(rng, tissue, FLAIR_SIGNAL), _acquire(rng, tissue, T1_SIGNAL), labels)


def _squares(xyz: list[Floats], radii: tuple[float, ...]) -> Floats:
    x, y, z = (axis / radius for axis, radius in zip(xyz, radii, strict=True))
    return x**2 + y**2 + z**2


def _head_grid(rng: Generator, shape: tuple[int, int, int], spacing: Floats) -> list[Floats]:
    """Return voxel centres in mm along the axes of the head, which differ a little in each patient."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    turn, size = rng.normal(0.0, 0.06), rng.uniform(0.93, 1.07, 3)
    dx, dy, dz = rng.normal(0.0, 3.0, 3)
    turned = (np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y, z)
    return [(axis - shift) / scale for axis, shift, scale in zip(turned, (dx, dy, dz), size, strict=True)]


def _ventricle_distance(rng: Generator, xyz: list[Floats]) -> Floats:
    """Return a distance below 1 inside the two lateral ventricles: bowed ellipsoids next to the midline."""
    x, y, z = xyz
    width = rng.uniform(0.7, 1.5)
    bowed = np.abs(x) - 6.0 - 5.0 * width - 0.011 * y**2
    return np.sqrt(_squares([bowed, y + 3.0, z - 8.0], (5.0 * width, 29.0, 15.0)))


def _healthy_tissue(
    rng: Generator, xyz: list[Floats], depth_mm: Floats, ventricles: Floats, spacing: Floats
) -> Labels:
    x, y, z = xyz
    folds = np.abs(smooth_noise(rng, depth_mm.shape, tuple(4.5 / spacing)))
    nuclei = _squares([np.abs(x) - 25.0, y - 4.0, z - 2.0], (8.0, 15.0, 11.0)) < 1
    white = (depth_mm > 5.0) & ((depth_mm > 16.0) | (folds > 0.5)) & ~nuclei
    fissure = (np.abs(x) < 1.8) & (depth_mm < 26.0) & (z > -15.0)
    fluid = ((folds < 0.22) & (depth_mm < 13.0)) | fissure | (ventricles < 1)
    tissue = np.where(white, WHITE, GREY)
    tissue[fluid] = CSF
    tissue[depth_mm < 0] = BACKGROUND
    return tissue.astype(np.uint8)


def _add_bright_lookalikes(
    rng: Generator, tissue: Labels, xyz: list[Floats], depth_mm: Floats, ventricles: Floats
) -> None:
    """Add caps on the ventricles' horns, part of the cortical rim, or both: as bright as edema."""
    x, y, z = xyz
    reach, side, around = rng.uniform(1.25, 1.6), rng.choice([-1.0, 1.0]), rng.uniform(-np.pi, np.pi)
    caps = (ventricles < reach) & (side * y > 17.0) & (ventricles >= 1)
    away = np.abs(np.angle(np.exp(1j * (np.arctan2(y, x) - around))))
    rim = (depth_mm > 0) & (depth_mm < 4.5) & (away < rng.uniform(0.3, 0.9)) & (np.abs(z - 10.0) < 35.0)
    shown = rng.choice(["caps", "rim", "both"])
    tissue[(caps & (shown != "rim")) | (rim & (shown != "caps"))] = GLIOSIS


def _add_tumour(
    rng: Generator, tissue: Labels, xyz: list[Floats], depth_mm: Floats, spacing: Floats, area: float
) -> None:
    """Add a lumpy ellipsoid of edema around an enhancing shell around a core, where `depth_mm` > 0."""
    radius = np.sqrt(area * HEAD_MM[0] * HEAD_MM[1])
    deep = np.flatnonzero(depth_mm > np.clip(0.7 * radius, 6.0, 26.0))
    centre = deep[rng.integers(deep.size)]
    stretch = rng.uniform(0.8, 1.25, 3)
    around = [axis - axis.flat[centre] for axis in xyz]
    distance = np.sqrt(_squares(around, tuple(radius * stretch / np.cbrt(stretch.prod()))))
    lumps = smooth_noise(rng, tissue.shape, tuple(np.maximum(0.3 * radius / spacing, 0.5)))
    distance *= np.exp(0.22 * lumps)
    inner, outer = rng.uniform(0.2, 0.45), rng.uniform(0.5, 0.75)
    kind = np.select([distance < inner, distance < outer], [CORE, ENHANCING], EDEMA)
    inside = (distance < 1) & (depth_mm > 0)
    tissue[inside] = kind[inside]


def _acquire(rng: Generator, tissue: Labels, signal: tuple[float, ...]) -> Floats:
    """Return the signal of the tissues with partial volume, coil shading and Rician noise; 0 outside."""
    levels = np.asarray(signal) * rng.uniform(0.94, 1.06, len(signal))
    clean = ndimage.gaussian_filter(levels[tissue], (0.6, 0.6, 0.3))
    grain = 1.0 + 0.05 * smooth_noise(rng, tissue.shape, 1.5)
    shading = np.exp(0.08 * smooth_noise(rng, tissue.shape, tuple(np.asarray(tissue.shape) / 5)))
    noise = 0.03 * rng.standard_normal((2, *tissue.shape))
    measured: Floats = np.hypot(clean * grain * shading + noise[0], noise[1]) * (tissue != BACKGROUND)
    return measured
