"""Scenes of the still phantoms: a polyp in a colon, metastases in a liver slice, slices of a glioma.

As in `shapes`, these are teaching pictures with look-alikes: folds and glints, vessels and cysts.
H W pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flames_cli.arrays import Floats, Mask
from flames_cli.demo_data.brain import draw_brain
from flames_cli.demo_data.noise import smooth_noise

Generator = np.random.Generator
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

COLON_SHAPE = (88, 104)
LIVER_SHAPE = (96, 96)
BRAIN_SHAPE = (64, 64, 8)


@dataclass(frozen=True)
class Frame:
    """One still image, H×W or H×W×3 uint8, with its mask of 0 and 1."""

    image: Bytes
    mask: Mask


def draw_colon(rng: Generator, area: float, tint: tuple[float, float, float], frames: int = 1) -> list[Frame]:
    """Draw neighbouring frames of a polyp that covers `area` of the image; the wall has the colour `tint`."""
    still = _colon_still(rng, area, tint)
    return [_film(rng, still, shift) for shift in range(frames)]


def _colon_still(rng: Generator, area: float, tint: tuple[float, float, float]) -> tuple[Floats, Flags]:
    """Return reflectance, H×W×3, about 0 to 1, and the pixels of the polyp."""
    distance = _lumpy(rng, COLON_SHAPE, area, reach=0.55)
    inside = distance < 1
    colour = _bowel_wall(rng)[..., None] * np.asarray(tint)
    dome = rng.uniform(0.75, 1.0) * np.sqrt(np.clip(1.15 - distance**2, 0.05, 1.0))
    dome += 0.06 * smooth_noise(rng, COLON_SHAPE, 2.0)
    flesh = np.asarray(tint) * rng.uniform((0.95, 0.65, 0.7), (1.15, 1.0, 1.1))
    colour[inside] = (dome[..., None] * flesh)[inside]
    rim = np.exp(-(((distance - 1.1) / 0.08) ** 2))
    colour *= 1.0 - 0.35 * rim[..., None]
    colour[smooth_noise(rng, COLON_SHAPE, 1.3) > 2.7] = 0.97
    return colour, inside


def _bowel_wall(rng: Generator) -> Floats:
    """Return the brightness of the wall: dark in the lumen, with folds around it and uneven light."""
    rows, columns = (axis - rng.uniform(-0.8, 0.8) for axis in _grid(COLON_SHAPE))
    lumen = np.hypot(rows, columns)
    folds = np.sin(rng.uniform(9.0, 20.0) * lumen + 1.3 * smooth_noise(rng, COLON_SHAPE, 9.0))
    wall = np.clip(0.3 + 0.55 * lumen, 0.1, 0.9) + 0.1 * folds
    light = 0.14 * smooth_noise(rng, COLON_SHAPE, 14.0) + 0.025 * smooth_noise(rng, COLON_SHAPE, 1.0)
    bright: Floats = wall + light
    return bright


def _film(rng: Generator, still: tuple[Floats, Flags], shift: int) -> Frame:
    """Return the scene a little later: shifted, with new noise, in the black frame of the endoscope."""
    move = (shift, 2 * shift)
    colour, inside = np.roll(still[0], move, (0, 1)), np.roll(still[1], move, (0, 1))
    rows, columns = _grid(COLON_SHAPE)
    shown = (np.abs(rows) + np.abs(columns) < 1.7) & (np.abs(columns) < 0.96)
    noisy = colour + 0.012 * rng.standard_normal(colour.shape)
    return Frame(_grey_levels(noisy * shown[..., None]), (inside & shown).astype(np.uint8))


def draw_liver(rng: Generator, area: float, slices: int) -> list[Frame]:
    """Draw axial slices with lesions darker than the liver; the largest covers `area` of the image."""
    image, where = _abdomen(rng)
    lesions = [_within(rng, where, area * share) for share in (1.0, 0.4)[: rng.integers(1, 3)]]
    contrast = rng.uniform(0.14, 0.26)
    return [_cut(rng, image, lesions, where, contrast, index, slices) for index in range(slices)]


def _abdomen(rng: Generator) -> tuple[Floats, Flags]:
    """Return an image of the abdomen with its organs, and the pixels where a lesion may be."""
    rows, columns = (axis + rng.normal(0.0, 0.03) for axis in _grid(LIVER_SHAPE))
    wobble, size = smooth_noise(rng, LIVER_SHAPE, 10.0), rng.uniform(0.85, 1.1)
    body = np.hypot(rows / 0.72, columns / 0.92) / size + 0.02 * wobble
    liver = np.hypot((rows + 0.08) / 0.5, (columns + 0.38) / 0.46) / size + 0.08 * wobble
    stomach = np.hypot((rows + 0.25) / 0.26, (columns - 0.45) / rng.uniform(0.18, 0.3)) < 1
    image = np.select([body < 0.88, body < 1], [0.42, 0.14], 0.0)
    image[(liver < 1) & (body < 0.86)] = rng.uniform(0.52, 0.62)
    image[np.hypot((rows - 0.45) / 0.14, columns / 0.12) < 1] = 0.92
    image[np.hypot((rows - 0.2) / 0.07, (columns - 0.08) / 0.07) < 1] = rng.uniform(0.6, 0.8)
    image[stomach] = rng.uniform(0.28, 0.5)
    image[(np.abs(smooth_noise(rng, LIVER_SHAPE, 6.0)) < 0.05) & (liver < 0.9)] += 0.1
    return image, (liver < 0.85) & (body < 0.8) & ~stomach


def _cut(
    rng: Generator,
    image: Floats,
    lesions: list[Floats],
    where: Flags,
    contrast: float,
    index: int,
    slices: int,
) -> Frame:
    """Return slice `index`; the lesions are widest in the middle slice."""
    away = (index - (slices - 1) / 2) / slices
    inside = np.minimum.reduce(lesions) < np.sqrt(1.0 - away**2)
    inside &= ndimage.binary_dilation(where, iterations=3)
    shown = ndimage.gaussian_filter(image - contrast * inside, 0.6) + 0.03 * rng.standard_normal(image.shape)
    return Frame(_grey_levels(np.where(image > 0, shown, 0.0)), inside.astype(np.uint8))


def draw_glioma(rng: Generator, area: float) -> list[Frame]:
    """Draw every axial slice of a brain: pre-contrast, FLAIR, post-contrast. Outer masks are empty."""
    brain = draw_brain(rng, BRAIN_SHAPE, area)
    enhanced = brain.t1 + 0.35 * (brain.labels == 3)
    volume = _grey_levels(np.stack([brain.t1, brain.flair, enhanced], axis=-1) / 1.1)
    masks = (brain.labels > 0).astype(np.uint8)
    return [
        Frame(np.rot90(volume[:, :, index]), np.rot90(masks[:, :, index])) for index in range(BRAIN_SHAPE[2])
    ]


def _grid(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return row and column coordinates from -1 to 1."""
    rows, columns = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    return rows, columns


def _lumpy(
    rng: Generator,
    shape: tuple[int, int],
    area: float,
    reach: float,
    centre: tuple[float, float] | None = None,
) -> Floats:
    """Return the distance from a blob's centre / that of its outline; below 1 is about `area` of the image.

    The centre is drawn within ±`reach` of the middle of the grid, unless it is given.
    """
    rows, columns = _grid(shape)
    row, column = centre or rng.uniform(-reach, reach, 2)
    aspect = np.exp(rng.uniform(-0.25, 0.25))
    radius = np.sqrt(4.0 * area / np.pi)
    around = np.hypot((rows - row) * aspect, (columns - column) / aspect) / radius
    outline: Floats = around * np.exp(0.1 * smooth_noise(rng, shape, max(2.0, 0.3 * radius * shape[0] / 2)))
    return outline


def _within(rng: Generator, where: Flags, area: float) -> Floats:
    """Return a blob centred well inside `where`."""
    room = ndimage.distance_transform_edt(where)
    spots = np.argwhere(room > 0.5 * room.max())
    row, column = spots[rng.integers(len(spots))] / (np.asarray(where.shape) - 1) * 2.0 - 1.0
    return _lumpy(rng, (where.shape[0], where.shape[1]), area, 0.0, (float(row), float(column)))


def _grey_levels(signal: Floats) -> Bytes:
    levels: Bytes = np.round(255.0 * np.clip(signal, 0.0, 1.0)).astype(np.uint8)
    return levels
