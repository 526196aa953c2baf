"""Schematic trunks in CT: fat around soft tissue, spine, aorta, and an organ with its tumour.

A vessel is as bright as no tumour and a bowel loop as grey as one: neither one threshold nor one polarity
finds them all. These are teaching pictures, not anatomy. X Y Z voxels towards right, anterior, superior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flames_cli.arrays import Floats
from flames_cli.demo_data.noise import smooth_noise

SHAPE = (40, 36, 14)
SPACING_MM = (8.0, 8.0, 10.0)

AIR, FAT, SOFT, BONE, BLOOD, CYST = -1000.0, -100.0, 45.0, 450.0, 190.0, 5.0
"""Levels in HU, as all levels in this module."""
NOISE = 12.0

Triple = tuple[float, float, float]
Flags = NDArray[np.bool_]
Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Organ:
    """Position of an organ in the trunk, whose half axes are 1, and its appearance."""

    centre: Triple
    radii: Triple
    level: float
    tumour_level: float
    tumour_px: tuple[float, float]
    """Smallest and largest radius of the tumour, in pixels of an axial slice."""
    paired: bool = False
    labelled: bool = True
    """True if the organ has label 1 and its tumour 2; otherwise the tumour has label 1."""


LIVER = Organ((0.36, 0.05, 0.0), (0.52, 0.58, 0.85), 115.0, 50.0, (3.4, 7.5))
LUNGS = Organ((0.43, 0.05, 0.0), (0.36, 0.6, 0.95), -850.0, 30.0, (1.3, 4.0), paired=True, labelled=False)
PANCREAS = Organ((-0.05, 0.2, 0.0), (0.5, 0.2, 0.5), 95.0, 40.0, (1.3, 3.2))
KIDNEYS = Organ((0.5, -0.25, 0.0), (0.25, 0.3, 0.7), 180.0, 85.0, (1.5, 3.6), paired=True)


def draw_trunk(
    rng: Generator, organ: Organ, healthy: bool = False, cyst: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return HU and labels (0 elsewhere, 1 organ, 2 tumour, 3 cyst; or 1 tumour), X×Y×Z each."""
    xyz = _grid(rng)
    trunk = _ellipsoid(xyz, (0.0, 0.0, 0.0), (1.0, 1.0, np.inf)) < 1
    hu = _tissue(rng, xyz, trunk)
    inside = _organ(rng, xyz, organ) & trunk
    hu[inside] = organ.level
    hu[_ellipsoid(xyz, (organ.centre[0], organ.centre[1] - 0.1, 0.0), (0.06, 0.08, np.inf)) < 1] = BLOOD
    labels = np.where(inside, np.uint8(organ.labelled), np.uint8(0))
    if cyst:
        _paint(rng, hu, labels, inside, (2.0, CYST), 3)
    if not healthy:
        low, high = np.log(organ.tumour_px)
        radius = float(np.exp(rng.uniform(low, high)))
        _paint(rng, hu, labels, inside, (radius, organ.tumour_level), 2 if organ.labelled else 1)
    blurred = ndimage.gaussian_filter(hu, (0.5, 0.5, 0.3)) + NOISE * rng.standard_normal(SHAPE)
    return np.round(blurred).astype(np.int16), labels


def _grid(rng: Generator) -> list[Floats]:
    """Return coordinates, -1..1 across the trunk, whose size differs a little in each patient."""
    size = rng.uniform(0.84, 0.94, 3)
    axes = [np.linspace(-1.0, 1.0, n) / part for n, part in zip(SHAPE, size, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij"))


def _ellipsoid(xyz: list[Floats], centre: Triple, radii: Triple) -> Floats:
    """Return a distance that is below 1 inside."""
    parts = zip(xyz, centre, radii, strict=True)
    distance: Floats = np.sqrt(sum(((axis - middle) / radius) ** 2 for axis, middle, radius in parts))
    return distance


def _tissue(rng: Generator, xyz: list[Floats], trunk: Flags) -> Floats:
    hu = np.where(trunk, FAT, AIR)
    hu[_ellipsoid(xyz, (0.0, 0.0, 0.0), (0.9, 0.88, np.inf)) < 1] = SOFT
    hu[_ellipsoid(xyz, (0.0, -0.62, 0.0), (0.14, 0.16, np.inf)) < 1] = BONE
    hu[_ellipsoid(xyz, (-0.05, -0.36, 0.0), (0.08, 0.09, np.inf)) < 1] = BLOOD
    loop = (rng.uniform(-0.6, -0.3), rng.uniform(0.3, 0.5), rng.uniform(-0.5, 0.5))
    hu[_ellipsoid(xyz, loop, (0.2, 0.18, 0.4)) < 1] = rng.uniform(70.0, 110.0)
    return hu


def _organ(rng: Generator, xyz: list[Floats], organ: Organ) -> Flags:
    wobble = 1.0 + 0.08 * smooth_noise(rng, SHAPE, (5.0, 5.0, 2.0))
    inside = _ellipsoid(xyz, organ.centre, organ.radii) * wobble < 1
    if organ.paired:
        mirrored = (-organ.centre[0], organ.centre[1], organ.centre[2])
        inside |= _ellipsoid(xyz, mirrored, organ.radii) * wobble < 1
    return inside


def _paint(
    rng: Generator,
    hu: Floats,
    labels: NDArray[np.uint8],
    organ: Flags,
    look: tuple[float, float],
    label: int,
) -> None:
    """Add a lumpy ball of (radius in pixels, HU) around a voxel of the organ, as deep inside as possible."""
    radius, level = look
    room = ndimage.distance_transform_edt(organ)
    spots = np.argwhere(room >= min(0.4 * radius, 0.9 * room.max()))
    centre = spots[rng.integers(len(spots))]
    around = np.indices(SHAPE) - centre.reshape(3, 1, 1, 1)
    depth = np.array(SPACING_MM).reshape(3, 1, 1, 1) / SPACING_MM[0]
    distance = np.linalg.norm(around * depth, axis=0) / radius
    ball = (distance * np.exp(0.12 * smooth_noise(rng, SHAPE, (1.5, 1.5, 1.0))) < 1) & (hu > AIR)
    ball[tuple(centre)] = True
    hu[ball], labels[ball] = level, label
