"""Schematic ultrasound images of breast and ovary with their tumours.

Tumours are dark, and so are some healthy structures: no single threshold finds all tumours. These are
teaching pictures, not anatomy. H W pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flames_cli.arrays import Floats, Mask
from flames_cli.demo_data.noise import smooth_noise

DYNAMIC_RANGE_DB = 60.0

Flags = NDArray[np.bool_]
Generator = np.random.Generator


@dataclass(frozen=True)
class Scan:
    """One ultrasound image, H×W uint8, and a mask for each lesion (without a lesion: one empty mask)."""

    image: NDArray[np.uint8]
    masks: tuple[Mask, ...]


def draw_breast(rng: Generator, kind: str, area: float) -> Scan:
    """Draw a breast, 120 to 200 pixels wide: skin, fat, gland, fascia and muscle from top to bottom.

    `kind` is "benign" (smooth, bright behind), "malignant" (spiculated, shadow behind) or "normal" (none).
    `area` is the lesion's share of the image (unused for "normal"); one in five images has a second one.
    """
    width = int(rng.integers(120, 201))
    shape = (int(width * rng.uniform(0.68, 0.92)), width)
    echo = _breast_layers(rng, shape)
    depth = np.linspace(0.0, 1.0, shape[0])[:, None] * np.ones(shape)
    free = (depth > 0.14) & (depth < 0.78)
    _add_dark_lobules(rng, echo, (depth > 0.25) & (depth < 0.8))
    second = [area * rng.uniform(0.3, 0.6)] if rng.random() < 0.2 else []
    masks: list[Mask] = []
    for share in [] if kind == "normal" else [area, *second]:
        distance = _breast_lesion(rng, free, kind, share)
        _paint_breast_lesion(rng, echo, distance, kind)
        masks.append((distance < 1).astype(np.uint8))
        free &= distance > 1.5
    echo += _contact_shadows(rng, depth) - rng.uniform(4.0, 12.0) * depth + rng.normal(0.0, 2.0)
    return Scan(_b_mode(rng, echo), tuple(masks) or (np.zeros(shape, np.uint8),))


def _breast_layers(rng: Generator, shape: tuple[int, int]) -> Floats:
    """Return echo levels in dB below the brightest grey, in tissue layers with wavy borders."""
    depth = np.linspace(0.0, 1.0, shape[0])[:, None] + 0.012 * smooth_noise(rng, (1, shape[1]), (0.0, 24.0))
    depth = depth + 0.012 * smooth_noise(rng, shape, (8.0, 12.0))
    borders = np.cumsum([0.05, rng.uniform(0.08, 0.2), rng.uniform(0.38, 0.52), 0.06, 0.02])
    levels = np.array([-7.0, -25.0, -16.0, -26.0, -11.0, -24.0])
    layer = np.digitize(depth, borders)
    streaks = smooth_noise(rng, shape, (1.6, 7.0)) * np.array([1.0, 1.5, 3.5, 1.5, 1.0, 3.0])[layer]
    septa = np.abs(smooth_noise(rng, shape, (5.0, 9.0))) < 0.1
    echo = levels[layer] + streaks + 9.0 * (septa & ((layer == 1) | (layer == 3)))
    return _blur(echo, 0.8)


def _add_dark_lobules(rng: Generator, echo: Floats, where: Flags) -> None:
    """Add islands of fat in the gland: dark like lesions, but with soft borders and no shadow."""
    for _ in range(rng.integers(1, 4)):
        distance = _blob(rng, where, rng.uniform(0.004, 0.03) * where.size, rng.uniform(1.5, 2.6), 0.08)
        soft = 1.0 / (1.0 + np.exp(6.0 * (distance - 1.0)))
        echo -= rng.uniform(7.0, 13.0) * soft


def _breast_lesion(rng: Generator, free: Flags, kind: str, share: float) -> Floats:
    if kind == "benign":
        return _blob(rng, free, share * free.size, rng.uniform(1.2, 1.9), 0.04)
    return _blob(rng, free, share * free.size, rng.uniform(0.8, 1.3), 0.08, spikes=int(rng.integers(8, 15)))


def _paint_breast_lesion(rng: Generator, echo: Floats, distance: Floats, kind: str) -> None:
    inside, rim = distance < 1, (distance >= 1) & (distance < 1.14)
    malignant = kind == "malignant"
    echo += _behind(inside) * (-rng.uniform(8.0, 18.0) if malignant else rng.uniform(3.0, 8.0))
    texture = smooth_noise(rng, (echo.shape[0], echo.shape[1]), 2.5) * (3.0 if malignant else 1.5)
    echo[rim] += rng.uniform(0.0, 6.0)
    echo[inside] = (rng.uniform(-40.0, -31.0) + texture)[inside]


def _contact_shadows(rng: Generator, depth: Floats) -> Floats:
    """Return dark columns (dB, at most 0) under poor probe contact or a ligament: as dark as lesions."""
    columns = np.arange(depth.shape[1])
    loss = np.zeros(depth.shape)
    for _ in range(rng.integers(1, 4)):
        middle, half = rng.uniform(0.0, depth.shape[1]), rng.uniform(0.02, 0.07) * depth.shape[1]
        profile = np.exp(-0.5 * ((columns - middle) / half) ** 2)
        loss -= rng.uniform(8.0, 18.0) * profile * np.clip((depth - rng.uniform(0.06, 0.4)) / 0.08, 0.0, 1.0)
    return loss


def draw_ovary(rng: Generator, area: float) -> Scan:
    """Draw an ovary in a sector, 140 to 220 pixels wide; `area` is the lesion's share of it, 0 for none."""
    width = int(rng.integers(140, 221))
    shape = (int(width * rng.uniform(0.66, 0.85)), width)
    fan, depth = _fan(rng, shape)
    echo = -23.0 + 3.0 * smooth_noise(rng, shape, (3.0, 6.0)) + 3.5 * smooth_noise(rng, shape, 14.0)
    lesion = _blob(rng, fan, (area or 0.02) * fan.size, rng.uniform(0.8, 1.5), 0.1)
    _add_gas(rng, echo, fan, lesion)
    _add_ovary(rng, echo, fan, lesion)
    mask = (lesion < 1) & fan & (area > 0)
    if mask.any():
        _paint_ovarian_lesion(rng, echo, lesion)
    image = _b_mode(rng, echo - rng.uniform(3.0, 10.0) * depth + rng.normal(0.0, 2.0))
    return Scan(np.where(fan, image, 0).astype(np.uint8), (mask.astype(np.uint8),))


def _fan(rng: Generator, shape: tuple[int, int]) -> tuple[Flags, Floats]:
    """Return the sector that a curved probe sees, and the depth in it (0 at the probe, 1 at the end)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    apex = rng.uniform(0.12, 0.3) * shape[0]
    reach = np.hypot(rows + apex, columns - (shape[1] - 1) / 2)
    angle = np.arctan2(columns - (shape[1] - 1) / 2, rows + apex)
    depth = (reach - 1.25 * apex) / (shape[0] - 1 - 0.25 * apex)
    return (depth > 0) & (depth < 1) & (np.abs(angle) < rng.uniform(0.75, 1.0)), np.clip(depth, 0.0, 1.0)


def _add_gas(rng: Generator, echo: Floats, fan: Flags, lesion: Floats) -> None:
    """Add bowel gas, a bright arc with an uneven shadow, outside the lesion if there is room."""
    for _ in range(rng.integers(1, 3)):
        distance = _blob(rng, fan & (lesion > 1.5), 0.004 * fan.size, rng.uniform(3.0, 6.0), 0.1)
        echo -= rng.uniform(9.0, 18.0) * _blur(_behind(distance < 1), 2.0)
        echo += 12.0 * _blur(distance < 1, 0.7)


def _add_ovary(rng: Generator, echo: Floats, fan: Flags, lesion: Floats) -> None:
    """Add the ovary, grey and oval, under or next to the lesion, with a few small black follicles."""
    near = fan & (lesion < 1.6)
    distance = _blob(rng, near, rng.uniform(0.06, 0.12) * fan.size, rng.uniform(1.3, 1.8), 0.03)
    inside = distance < 1
    echo[inside] = 0.5 * echo[inside] - rng.uniform(15.0, 19.0)
    echo[(distance >= 1) & (distance < 1.06)] += 5.0
    free = (distance < 0.85) & (lesion > 1.3) & fan
    for _ in range(rng.integers(3, 8) if free.any() else 0):
        follicle = _blob(rng, free, rng.uniform(0.0008, 0.003) * fan.size, 1.1, 0.03)
        echo[follicle < 1] = -55.0


def _paint_ovarian_lesion(rng: Generator, echo: Floats, distance: Floats) -> None:
    """Add a clear cyst, a mixed one (septa and a nodule) or a solid mass, with a bright wall."""
    kind = rng.choice(["cyst", "mixed", "solid"], p=[0.4, 0.35, 0.25])
    shape = (echo.shape[0], echo.shape[1])
    inside = distance < 1
    echo += rng.uniform(3.0, 8.0) * _behind(inside)
    level = {"cyst": -54.0, "mixed": -42.0, "solid": -37.0}[kind] + rng.uniform(-4.0, 4.0)
    content = level + smooth_noise(rng, shape, 3.0) * (1.0 if kind == "cyst" else 3.0)
    if kind == "mixed":
        content[np.abs(smooth_noise(rng, shape, 0.25 * np.sqrt(inside.sum()))) < 0.12] = -20.0
        content[_blob(rng, inside, 0.12 * inside.sum(), 1.2, 0.1) < 1] = -22.0
    echo[inside] = content[inside]
    echo[(distance > 0.94) & (distance < 1.06)] += rng.uniform(6.0, 16.0)


def _blob(
    rng: Generator, where: Flags, area_px: float, aspect: float, wobble: float, spikes: int = 0
) -> Floats:
    """Return the distance from a blob's centre / that of its outline, H×W; it is below 1 inside.

    The centre is drawn from the pixels of `where` that leave room for the blob, or from the roomiest ones.
    `aspect` is width over height; `wobble` the amplitude of the outline's low harmonics; `spikes` spicules.
    """
    half = np.sqrt(area_px / np.pi * np.array([1.0 / aspect, aspect]))
    room = ndimage.distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1]
    spots = np.argwhere(room >= min(half.max(), 0.9 * room.max()))
    centre = spots[rng.integers(len(spots))]
    rows, columns = np.mgrid[: where.shape[0], : where.shape[1]]
    tilt = rng.normal(0.0, 0.2)
    down, across = rows - centre[0], columns - centre[1]
    v = (np.cos(tilt) * down - np.sin(tilt) * across) / half[0]
    u = (np.sin(tilt) * down + np.cos(tilt) * across) / half[1]
    angles = np.linspace(-np.pi, np.pi, 361)
    outline = _outline(rng, angles, wobble, spikes)
    distance: Floats = np.hypot(u, v) / np.interp(np.arctan2(v, u), angles, outline)
    return distance


def _outline(rng: Generator, angles: Floats, wobble: float, spikes: int) -> Floats:
    """Return the radius by angle, with mean square 1, so that the blob keeps its area."""
    radius = np.ones_like(angles)
    for order in range(2, 6):
        radius += 2.0 / order * wobble * rng.normal() * np.cos(order * angles + rng.uniform(0.0, 2 * np.pi))
    for tip in rng.uniform(-np.pi, np.pi, spikes):
        away = np.abs(np.angle(np.exp(1j * (angles - tip))))
        radius += rng.uniform(0.2, 0.6) * np.exp(-away / 0.12)
    radius = np.maximum(radius, 0.3)
    unit: Floats = radius / np.sqrt(np.mean(radius**2))
    return unit


def _behind(inside: Flags) -> Floats:
    """Return weights, 1 below the blob and lower to its sides, of its enhancement or shadow."""
    return _blur(np.maximum.accumulate(inside, axis=0) & ~inside, 2.0)


def _blur(image: Floats | Flags, sigma: float) -> Floats:
    blurred: Floats = ndimage.gaussian_filter(image.astype(np.float64), sigma)
    return blurred


def _b_mode(rng: Generator, echo_db: Floats) -> NDArray[np.uint8]:
    """Return log-compressed grey levels with correlated Rayleigh speckle, which adds in dB."""
    shape = (echo_db.shape[0], echo_db.shape[1])
    grain = (0.7, 1.2)
    speckle = np.hypot(smooth_noise(rng, shape, grain), smooth_noise(rng, shape, grain)) / np.sqrt(2.0)
    level = 1.0 + (echo_db + 20.0 * np.log10(np.maximum(speckle, 0.03))) / DYNAMIC_RANGE_DB
    grey: NDArray[np.uint8] = np.round(255.0 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
    return grey
