"""Make monai.json: distances between the surfaces of masks, by MONAI 1.6.1, whose import takes seconds.

Run it with the packages of the extra `monai-bundle`: python make_monai.py.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from monai import metrics
from scipy.ndimage import gaussian_filter

SPACINGS = {2: (0.7, 1.3), 3: (4.0, 0.7, 1.3)}


def blobs(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Draw two smooth masks that overlap in part."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    level = np.quantile(noise, 0.85)
    return [noise > level, np.roll(noise, 2, axis=-1) > level * 1.1]


def specks(seed: int) -> list[np.ndarray]:
    """Draw two small masks of single voxels, many of them at a border."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, (10, 6)[seed % 2], size=2 + seed % 2))
    masks = [rng.random(shape) < share for share in rng.uniform(0.05, 0.95, size=2)]
    for mask in masks:
        mask.flat[rng.integers(mask.size)] = True
    return masks


def measure(pred: np.ndarray, target: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> dict:
    """Return HD95, ASSD and NSD as MONAI's three functions give them for complete masks."""
    pair = [torch.from_numpy(mask)[None, None].contiguous() for mask in (pred, target)]
    options = {"include_background": True, "spacing": list(spacing)}
    return {
        "hd95": float(metrics.compute_hausdorff_distance(*pair, percentile=95, **options)),
        "assd": float(metrics.compute_average_surface_distance(*pair, symmetric=True, **options)),
        "nsd": float(metrics.compute_surface_dice(*pair, [tolerance], use_subvoxels=True, **options)),
    }


def main() -> None:
    """Write the masks, packed to bits, and MONAI's figures of them."""
    warnings.simplefilter("ignore", FutureWarning)
    pairs = [blobs(shape, seed) for shape in ((40, 50), (9, 30, 36)) for seed in range(4)]
    pairs += [specks(seed) for seed in range(60)]
    cases = []
    for number, (pred, target) in enumerate(pairs):
        spacing, tolerance = SPACINGS[pred.ndim], (1.5, 1.0, 4.5)[number % 3]
        cases.append(
            {
                "shape": pred.shape,
                "pred": np.packbits(pred).tobytes().hex(),
                "target": np.packbits(target).tobytes().hex(),
                "spacing": spacing,
                "tolerance": tolerance,
                **measure(pred, target, spacing, tolerance),
            }
        )
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("monai.json").write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    main()
