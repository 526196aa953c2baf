"""What the phantoms show: schematic brain MRI, breast ultrasound and ovarian ultrasound, with their tumours.

Tumours are bright in the brain (FLAIR) and dark in the ultrasound images, and each scene holds look-alikes:
neither one threshold nor one polarity finds them all. These are teaching pictures, not anatomy.
H W pixels, Z slices; x y z in mm towards right, anterior, superior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from flames_cli.arrays import Floats, Mask

FIELD_MM = (196.0, 196.0, 152.0)
"""What a brain volume covers: closer around the head than the MSD's 240×240×155, to make few pixels do."""

HEAD_MM = (70.0, 86.0, 72.0)
"""The mean head's half axes."""
DYNAMIC_RANGE_DB = 60.0

Flags = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Generator = np.random.Generator

BACKGROUND, GREY, WHITE, CSF, GLIOSIS, EDEMA, CORE, ENHANCING = range(8)
FLAIR_SIGNAL = (0.0, 0.56, 0.44, 0.12, 0.84, 0.86, 0.66, 0.78)
T1_SIGNAL = (0.0, 0.52, 0.78, 0.18, 0.50, 0.48, 0.32, 0.62)


@dataclass(frozen=True)
class Brain:
    """FLAIR and T1w, H×W×Z, in units where grey matter is about 0.6; labels 0..3 as in the MSD."""

    flair: Floats
    t1: Floats
    labels: Mask


@dataclass(frozen=True)
class Scan:
    """One ultrasound image, H×W uint8, and a mask for each lesion (one empty mask where there is none)."""

    image: NDArray[np.uint8]
    masks: tuple[Mask, ...]


def smooth_noise(rng: Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]) -> Floats:
    """Gaussian noise blurred by `sigma` pixels (periodic), then brought to mean 0 and deviation 1."""
    spectrum = fft.rfftn(rng.standard_normal(shape))
    field = fft.irfftn(ndimage.fourier_gaussian(spectrum, sigma, n=shape[-1]), shape)
    standard: Floats = (field - field.mean()) / field.std()
    return standard


def draw_brain(rng: Generator, shape: tuple[int, int, int], area: float) -> Brain:
    """A head in (H, W, Z) voxels, standing in RAS, whose tumour's widest slice is `area` of the head's."""
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
    """Voxel centres in the head's own mm axes: a little shifted, turned and scaled for each patient."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    turn, size = rng.normal(0.0, 0.06), rng.uniform(0.93, 1.07, 3)
    dx, dy, dz = rng.normal(0.0, 3.0, 3)
    turned = (np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y, z)
    return [(axis - shift) / scale for axis, shift, scale in zip(turned, (dx, dy, dz), size, strict=True)]


def _ventricle_distance(rng: Generator, xyz: list[Floats]) -> Floats:
    """Below 1 inside the two lateral ventricles: bowed ellipsoids beside the midline."""
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
    """Caps on the ventricles' horns, a stretch of cortical rim, or both: bright as edema, but no tumour."""
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
    """A lumpy ellipsoid of edema around an enhancing shell around a core; `depth_mm` < 0 is out of bounds."""
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
    """Signal by tissue, then partial volume, coil shading and Rician noise; 0 outside the head."""
    levels = np.asarray(signal) * rng.uniform(0.94, 1.06, len(signal))
    clean = ndimage.gaussian_filter(levels[tissue], (0.6, 0.6, 0.3))
    grain = 1.0 + 0.05 * smooth_noise(rng, tissue.shape, 1.5)
    shading = np.exp(0.08 * smooth_noise(rng, tissue.shape, tuple(np.asarray(tissue.shape) / 5)))
    noise = 0.03 * rng.standard_normal((2, *tissue.shape))
    measured: Floats = np.hypot(clean * grain * shading + noise[0], noise[1]) * (tissue != BACKGROUND)
    return measured


def draw_breast(rng: Generator, kind: str, area: float) -> Scan:
    """A breast image, 120 to 200 pixels wide: skin, fat, gland, fascia and muscle from top to bottom.

    `kind` is "benign" (smooth, bright behind), "malignant" (spiculated, shadow behind) or "normal" (none).
    `area` is the lesion's share of the image (unused for "normal"); one in five has a smaller one beside it.
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
    """Echo level in dB below the brightest grey, for each tissue layer; the layers' borders wave."""
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
    """Islands of fat in the gland: dark as many a lesion, but soft of border, with nothing behind them."""
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
    """Dark columns under poor probe contact or a ligament: no lesion, though as dark (dB, at most 0)."""
    columns = np.arange(depth.shape[1])
    loss = np.zeros(depth.shape)
    for _ in range(rng.integers(1, 4)):
        middle, half = rng.uniform(0.0, depth.shape[1]), rng.uniform(0.02, 0.07) * depth.shape[1]
        profile = np.exp(-0.5 * ((columns - middle) / half) ** 2)
        loss -= rng.uniform(8.0, 18.0) * profile * np.clip((depth - rng.uniform(0.06, 0.4)) / 0.08, 0.0, 1.0)
    return loss


def draw_ovary(rng: Generator, area: float) -> Scan:
    """An ovary in a sector, 140 to 220 pixels wide; `area` is the lesion's share of the image, 0 for none."""
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
    """The sector a curved probe sees, and the depth in it (0 at the probe, 1 at the far end)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    apex = rng.uniform(0.12, 0.3) * shape[0]
    reach = np.hypot(rows + apex, columns - (shape[1] - 1) / 2)
    angle = np.arctan2(columns - (shape[1] - 1) / 2, rows + apex)
    depth = (reach - 1.25 * apex) / (shape[0] - 1 - 0.25 * apex)
    return (depth > 0) & (depth < 1) & (np.abs(angle) < rng.uniform(0.75, 1.0)), np.clip(depth, 0.0, 1.0)


def _add_gas(rng: Generator, echo: Floats, fan: Flags, lesion: Floats) -> None:
    """Bowel gas: a bright arc with a dirty shadow under it, clear of the lesion where there is room."""
    for _ in range(rng.integers(1, 3)):
        distance = _blob(rng, fan & (lesion > 1.5), 0.004 * fan.size, rng.uniform(3.0, 6.0), 0.1)
        echo -= rng.uniform(9.0, 18.0) * _blur(_behind(distance < 1), 2.0)
        echo += 12.0 * _blur(distance < 1, 0.7)


def _add_ovary(rng: Generator, echo: Floats, fan: Flags, lesion: Floats) -> None:
    """The ovary, grey and oval, under or beside the lesion, with a few small black follicles."""
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
    """A clear cyst, a mixed one (septa and a nodule) or a solid mass; bright wall, bright tissue behind."""
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
    """Distance from a blob's centre over its outline's: below 1 is inside. H×W.

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
    """Radius by angle, of mean square 1 so that the blob keeps its area."""
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
    """1 below the blob and fading sideways: where enhancement or shadow falls."""
    return _blur(np.maximum.accumulate(inside, axis=0) & ~inside, 2.0)


def _blur(image: Floats | Flags, sigma: float) -> Floats:
    blurred: Floats = ndimage.gaussian_filter(image.astype(np.float64), sigma)
    return blurred


def _b_mode(rng: Generator, echo_db: Floats) -> NDArray[np.uint8]:
    """Log-compressed grey levels: correlated Rayleigh speckle multiplies the amplitude, so adds in dB."""
    shape = (echo_db.shape[0], echo_db.shape[1])
    grain = (0.7, 1.2)
    speckle = np.hypot(smooth_noise(rng, shape, grain), smooth_noise(rng, shape, grain)) / np.sqrt(2.0)
    level = 1.0 + (echo_db + 20.0 * np.log10(np.maximum(speckle, 0.03))) / DYNAMIC_RANGE_DB
    grey: NDArray[np.uint8] = np.round(255.0 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
    return grey
