"""Speed of preprocessing, compared with a plain version of the authors' scripts in the same run.

python benchmarks/preprocess.py --otu2d ../shared/data/otu2d --brats ../shared/data/Task01_BrainTumour

The reference decodes one file after the other, stores every image as float32 and writes one npz. Both run
`--repeats` times, and the fastest run counts. Both resize masks as in the paper. Phantoms are drawn for a
data set without a folder.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.core.cores import available_cores
from flames_cli.demo_data import DEMO_DATA
from flames_cli.stages.preprocess.stage import preprocess

SIZE, HALF_WIDTH = 240, 20
PHANTOM_PATIENTS = {"otu2d": 200, "brats": 12}


def to_square(image: np.ndarray, interpolation: int) -> np.ndarray:
    """Pad and resize an image as the authors do."""
    height, width = image.shape
    missing = abs(height - width)
    margins = (missing // 2 + missing % 2, missing // 2)
    padded = np.pad(image, (margins, (0, 0)) if height < width else ((0, 0), margins))
    return cv2.resize(padded, (SIZE, SIZE), interpolation=interpolation)


def reference_otu2d(root: Path, target: Path) -> int:
    """Preprocess OTU_2d as the authors do, and return the number of images read."""
    images, masks = [], []
    paths = sorted((root / "images").glob("*.JPG"))
    for path in paths:
        mask = np.asarray(Image.open(root / "annotations" / f"{path.stem}_binary.PNG")).astype(np.float32)
        if mask.any():
            image = np.asarray(Image.open(path).convert("L")).astype(np.float32) / 255
            images.append(np.clip(to_square(image, cv2.INTER_LANCZOS4), 0, 1))
            masks.append(to_square(mask, cv2.INTER_NEAREST))
    np.savez(target, image=np.stack(images), mask=np.stack(masks))
    return len(paths)


def reference_brats(root: Path, target: Path) -> int:
    """Preprocess BrainTumour as the authors do, and return the number of volumes read."""
    images, masks = [], []
    paths = sorted((root / "imagesTr").glob("[!.]*.nii.gz"))
    for path in paths:
        volume = nib.as_closest_canonical(nib.load(path)).get_fdata()[..., 0]
        tumour = nib.as_closest_canonical(nib.load(root / "labelsTr" / path.name)).get_fdata() > 0
        high = np.percentile(volume, 95)
        volume = np.clip(volume, 0, high) / high
        bearing = np.flatnonzero(tumour.any(axis=(0, 1)))
        for z in bearing[np.abs(bearing - bearing.mean()) <= HALF_WIDTH]:
            image = np.rot90(volume[..., z]).astype(np.float32)
            images.append(np.clip(to_square(image, cv2.INTER_LANCZOS4), 0, 1))
            masks.append(to_square(np.rot90(tumour[..., z]).astype(np.float32), cv2.INTER_NEAREST))
    np.savez(target, image=np.stack(images), mask=np.stack(masks))
    return len(paths)


REFERENCES: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "otu2d": ("images", reference_otu2d),
    "brats": ("volumes", reference_brats),
}


def measure(run: Callable[[Path], int], suffix: str, repeats: int) -> tuple[float, int, int]:
    """Return (seconds of the fastest run, sources read, bytes written)."""
    best, sources, size = float("inf"), 0, 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            sources = run(Path(folder))
            best = min(best, time.perf_counter() - start)
            size = sum(path.stat().st_size for path in Path(folder).rglob(f"*{suffix}"))
    return best, sources, size


def main() -> None:
    """Measure both data sets and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--otu2d", type=Path, help="folder of OTU_2d")
    parser.add_argument("--brats", type=Path, help="folder of Task01_BrainTumour")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    options = parser.parse_args()
    print(f"{available_cores()} cores, fastest of {options.repeats} runs each")
    for name, (noun, reference) in REFERENCES.items():
        with tempfile.TemporaryDirectory() as drawn:
            root = getattr(options, name) or DEMO_DATA[name](Path(drawn), PHANTOM_PATIENTS[name], 0)
            kind = "real" if getattr(options, name) else "phantoms"

            def ours(folder: Path, name: str = name, root: Path = root) -> int:
                config = PreprocessConfig(
                    workspace=folder,
                    raw={name: root},
                    workers=options.workers,
                    size=SIZE,
                    mask_resize="paper",
                )
                return sum(report["sources"] for report in preprocess(config, name))

            def theirs(
                folder: Path, reference: Callable[[Path, Path], int] = reference, root: Path = root
            ) -> int:
                return reference(root, folder / "all.npz")

            plain, plain_n, plain_bytes = measure(theirs, ".npz", options.repeats)
            fast, n, size = measure(ours, ".h5", options.repeats)
        print(f"{name} ({kind}, {n} {noun})")
        print(f"  plain   {plain_n / plain:8.1f} {noun}/s {plain_bytes / 1e6:8.1f} MB")
        print(f"  flames  {n / fast:8.1f} {noun}/s {size / 1e6:8.1f} MB")
        print(f"  ratio   {plain / fast * n / plain_n:8.1f}x faster {plain_bytes / size:6.1f}x smaller")


if __name__ == "__main__":
    main()
