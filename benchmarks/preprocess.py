"""Speed of preprocessing, compared with a plain version of the authors' scripts in the same run.

    python benchmarks/preprocess.py --otu2d ../shared/data/otu2d --brats ../shared/data/Task01_BrainTumour \\
        --workers 1 2 4 8 16 --copies 8 --save speed.json --plot docs/images/preprocess.png

The reference decodes one file after the other, stores every image as float32 and writes one npz. Reference
and toolkit run in turns, `--repeats` times, and the fastest run of each counts. Both resize masks as in the
paper. With `--copies`, the toolkit gets every file several times under other names (links to the same file),
so that the work lasts long enough on many cores; the copies are found and left out of its file.

Phantoms are drawn for a data set without a folder. `--draw FILE` draws the picture of saved figures and
measures nothing.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


COPIED = {
    "otu2d": (("images", "{0}0000{1}"), ("annotations", "{0}0000{1}")),
    "brats": (("imagesTr", "{0}_{1}"), ("labelsTr", "{0}_{1}")),
}
"""Folders of a data set, with the name of the copy number {0} of the file {1}."""

LABELS = {"otu2d": "OTU_2d", "brats": "BrainTumour"}
"""Name of each data set in the picture."""

Figures = dict[str, Any]


def measure(run: Callable[[Path], int], suffix: str) -> tuple[float, int, int]:
    """Return (seconds, sources read, bytes written) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sources = run(Path(folder))
        seconds = time.perf_counter() - start
        return seconds, sources, sum(path.stat().st_size for path in Path(folder).rglob(f"*{suffix}"))


def run_flames(name: str, root: Path, workers: int, folder: Path, cache: bool = False) -> int:
    """Preprocess into `folder` and return the number of sources read."""
    config = PreprocessConfig(
        workspace=folder, raw={name: root}, workers=workers, size=SIZE, mask_resize="paper", cache=cache
    )
    return sum(report["sources"] for report in preprocess(config, name))


def link_copies(name: str, root: Path, copies: int, target: Path) -> Path:
    """Return a folder in which every file of `root` is there `copies` times; `root` itself for one."""
    if copies == 1:
        return root
    for folder, pattern in COPIED[name]:
        (target / folder).mkdir(parents=True)
        for path in (root / folder).glob("[!.]*.*"):
            for number in range(1, copies + 1):
                (target / folder / pattern.format(number, path.name)).symlink_to(path.resolve())
    return target


def measure_set(name: str, root: Path, kind: str, options: argparse.Namespace) -> Figures:
    """Measure the reference and the toolkit with every number of workers, in turns."""
    noun, reference = REFERENCES[name]
    plain: list[tuple[float, int, int]] = []
    ours: dict[int, list[tuple[float, int, int]]] = {workers: [] for workers in options.workers}
    with tempfile.TemporaryDirectory() as links:
        copied = link_copies(name, root, options.copies, Path(links) / "copied")
        for _ in range(options.repeats):
            plain.append(measure(lambda folder: reference(root, folder / "all.npz"), ".npz"))
            for workers, runs in ours.items():
                runs.append(
                    measure(
                        lambda folder, n=workers: run_flames(name, copied, n, folder, options.cache), ".h5"
                    )
                )
    seconds, sources, size = min(plain)
    return {
        "name": name,
        "kind": kind,
        "noun": noun,
        "sources": min(next(iter(ours.values())))[1],
        "plain_per_s": sources / seconds,
        "plain_bytes": size,
        "bytes": min(next(iter(ours.values())))[2],
        "per_s": {workers: min(runs)[1] / min(runs)[0] for workers, runs in ours.items()},
    }


def print_set(measured: Figures) -> None:
    """Print the speeds of one data set, and their ratios to the reference and to the first number of
    workers."""
    noun, plain = measured["noun"], measured["plain_per_s"]
    smaller = measured["plain_bytes"] / measured["bytes"]
    print(f"{measured['name']} ({measured['kind']}, {measured['sources']} {noun}; {smaller:.1f}x smaller)")
    print(f"  plain               {plain:9.1f} {noun}/s")
    first = next(iter(measured["per_s"].values()))
    for workers, speed in measured["per_s"].items():
        label = f"{workers} workers" if workers else "a worker a core"
        ratios = f"{speed / plain:6.1f}x plain {speed / first:6.1f}x the first"
        print(f"  flames {label:<15}{speed:7.1f} {noun}/s {ratios}")


def draw(figures: Sequence[Figures], path: Path) -> None:
    """Draw the speed over the number of workers, in multiples of the reference, as PNG."""
    from flames_cli.report.canvas import MARKERS, PALETTE, open_figure, save_figure

    with open_figure(4.5, 3.2, layout="constrained") as figure:
        axes = figure.add_subplot()
        for number, measured in enumerate(figures):
            workers = [int(text) for text in measured["per_s"]]
            speeds = np.array(list(measured["per_s"].values())) / measured["plain_per_s"]
            style: Any = {"color": PALETTE[number], "linewidth": 1.2}
            name = LABELS[measured["name"]]
            axes.plot(workers, speeds, marker=MARKERS[number], label=name, **style)
            proportional = speeds[0] * np.array(workers) / workers[0]
            axes.plot(workers, proportional, linestyle=":", label=f"{name}, in proportion", **style)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(workers, [str(one) for one in workers])
        axes.yaxis.set_major_formatter("{x:g}×")
        axes.set_xlabel("workers")
        axes.set_ylabel("speed, in multiples of the plain script")
        axes.legend(fontsize=7)
        save_figure(figure, path, "png")


def parse_options() -> argparse.Namespace:
    """Return the options, those of `--toy` set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--otu2d", type=Path, help="folder of OTU_2d")
    parser.add_argument("--brats", type=Path, help="folder of Task01_BrainTumour")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0], help="numbers of workers; 0: one per core"
    )
    parser.add_argument("--copies", type=int, default=1, help="how often the toolkit reads every file")
    parser.add_argument(
        "--cache", action="store_true", help="fill the cache, as the first run of a user does"
    )
    parser.add_argument("--only", choices=REFERENCES, help="measure one data set only")
    parser.add_argument("--save", type=Path, help="JSON file to write the figures to")
    parser.add_argument("--plot", type=Path, help="PNG file to draw the speed over the workers to")
    parser.add_argument("--draw", type=Path, help="saved figures to draw to --plot, in place of measuring")
    parser.add_argument("--toy", action="store_true", help="a few phantoms, measured once")
    options = parser.parse_args()
    if options.toy:
        options.repeats = 1
    return options


def main() -> None:
    """Measure both data sets and print the ratios; save and draw them if requested."""
    options = parse_options()
    if options.draw:
        draw(json.loads(options.draw.read_text(encoding="utf-8"))["sets"], options.plot)
        return
    print(f"{available_cores()} cores, {platform.machine()}, fastest of {options.repeats} runs each")
    figures = []
    for name in [options.only] if options.only else REFERENCES:
        with tempfile.TemporaryDirectory() as drawn:
            n = 12 if options.toy else PHANTOM_PATIENTS[name]
            root = getattr(options, name) or DEMO_DATA[name](Path(drawn), n, 0)
            kind = "real" if getattr(options, name) else "phantoms"
            figures.append(measure_set(name, root, kind, options))
        print_set(figures[-1])
    if options.save:
        options.save.write_text(
            json.dumps({"cores": available_cores(), "sets": figures}, indent=1), encoding="utf-8"
        )
    if options.plot:
        draw(figures, options.plot)


if __name__ == "__main__":
    main()
