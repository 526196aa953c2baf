"""Speed of `flames predict`, compared with a plain loop in the same run.

python benchmarks/predict.py --stills 100 --volumes 4 --model densenet-unet

The plain loop takes one image at a time: read it, make it square, run the model in float32, resize the mask
back and write it; of a volume one slice at a time. Both write masks and no pictures; --overlays adds them to
ours. Each runs in processes of its own, in turns; of `--repeats` runs the fastest counts, and the largest
memory. Images are phantoms: JPEG of about 700×900 pixels, and NIfTI volumes of 240×240 voxels and `--slices`.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import torch
from PIL import Image

from flames_cli.config import PredictConfig
from flames_cli.core.cores import available_cores
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.demo_data.layouts import draw_brats, draw_otu2d
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.stages.predict.stage import predict
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training, read_model, write_model

VOLUME_SIDE = 240
KINDS = ("stills", "volumes")
ARMS = ("plain", "ours")


def draw(folder: Path, stills: int, volumes: int, slices: int) -> None:
    """Write phantoms of ovarian ultrasound and of brain MRI, as `flames demo` draws them."""
    with tempfile.TemporaryDirectory() as drawn:
        us = draw_otu2d(Path(drawn, "us"), stills, 0)
        mri = draw_brats(Path(drawn, "mri"), volumes, 0, size=VOLUME_SIDE, slices=slices)
        shutil.move(next(path for path in us.rglob("images")), folder / "stills")
        shutil.move(next(path for path in mri.rglob("imagesTr")), folder / "volumes")


def make_model(folder: Path, model: str, options: dict[str, int], size: int) -> None:
    """Write the folder of a model with random weights."""
    info = ModelInfo(
        "benchmark",
        Architecture(model, options={**options, "in_channels": 1}),
        ModelInput("MRI", ("brain",), size, intensities=(IntensityRule(),)),
        Training("file"),
    )
    write_model(folder, info, to_weights(build_model(model, seed=0, in_channels=1, **options)), "")


def run_ours(model: Path, images: Path, out: Path, options: argparse.Namespace) -> None:
    """Predict by the command's function."""
    predict(
        PredictConfig(
            inputs=(str(images),),
            models=(str(model),),
            out=out,
            overlays=options.overlays,
            batch_size=options.batch,
            device=options.device,
            workspace=out.parent,
        )
    )


def run_plain(model: Path, images: Path, out: Path, options: argparse.Namespace) -> None:
    """Predict one image after the other."""
    info, weights = read_model(model)
    network = build_model(info.architecture.model, seed=0, **info.architecture.options)
    load_weights(network, weights)
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    network.to(device).eval()
    out.mkdir(parents=True)

    def segment(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        side, size = max(height, width), info.input.size
        padded = np.zeros((side, side), np.float32)
        top, left = (side - height) // 2, (side - width) // 2
        padded[top : top + height, left : left + width] = image
        square = np.clip(cv2.resize(padded, (size, size), interpolation=cv2.INTER_LANCZOS4), 0, 1)
        with torch.no_grad():
            found = network(torch.from_numpy((square - 0.5) / 0.5)[None, None].to(device))
        back = cv2.resize(found[0, 0].cpu().numpy(), (side, side), interpolation=cv2.INTER_LINEAR)
        return back[top : top + height, left : left + width] > info.threshold

    for path in sorted(images.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() == ".jpg":
            mask = segment(np.asarray(Image.open(path).convert("L")).astype(np.float32) / 255)
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / f"{path.stem}.png")
            continue
        volume = nib.load(path)
        voxels = volume.get_fdata()
        voxels = voxels[..., 0] if voxels.ndim == 4 else voxels
        high = np.percentile(voxels, 95)
        masks = [
            np.rot90(segment(np.rot90(np.clip(voxels[..., z], 0, high) / high).astype(np.float32)), -1)
            for z in range(voxels.shape[2])
        ]
        nib.save(nib.Nifti1Image(np.stack(masks, axis=2).astype(np.uint8), volume.affine), out / path.name)


def measure_here(options: argparse.Namespace) -> None:
    """Run one arm in this process, and print its seconds and memory."""
    run: Callable[..., None] = {"plain": run_plain, "ours": run_ours}[options.arm]
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(options.folder)
    with tempfile.TemporaryDirectory() as warm:  # imports and first steps count for neither
        run(folder / "model", folder / "warm", Path(warm) / "out", options)
    before = resident_mb()
    with tempfile.TemporaryDirectory() as target:
        start, spent = time.perf_counter(), time.process_time()
        run(folder / "model", folder / options.kind, Path(target) / "out", options)
        seconds, cpu = time.perf_counter() - start, time.process_time() - spent
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_mb(), "before_mb": before}))


def resident_mb() -> float:
    """Return the resident memory of this process now, in MB; 0 where the system does not report it."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if path.exists() else 0.0


def peak_mb() -> float:
    """Return the largest resident memory of this process, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(kind: str, folder: Path, typed: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Return the fastest run of each arm, and its least CPU time and largest memory."""
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for arm in ARMS * repeats:
        command = [sys.executable, __file__, *typed, "--arm", arm, "--kind", kind, "--folder", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        arm: {
            "seconds": min(one["seconds"] for one in own),
            "cpu": min(one["cpu"] for one in own),
            "peak_mb": max(one["peak_mb"] for one in own),
            "before_mb": min(one["before_mb"] for one in own),
        }
        for arm, own in runs.items()
    }


def main() -> None:
    """Measure both arms on both kinds of images, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stills", type=int, default=100)
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--base-channels", type=int, default=16, help="of a model other than densenet-unet")
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--batch", type=int, help="images in a step; by default the command's own")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: its own choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overlays", action="store_true", help="draw the pictures, too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        measure_here(options)
        return
    print(
        f"{options.model} {options.size}×{options.size} on {options.device}, {available_cores()} cores, "
        f"fastest of {options.repeats} runs each"
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        sizes = {} if options.model == "densenet-unet" else {"base_channels": options.base_channels}
        make_model(folder / "model", options.model, sizes, options.size)
        draw(folder, max(2, options.stills), max(2, options.volumes), options.slices)
        (folder / "warm").mkdir()
        for kind in KINDS:
            first = next(path for path in sorted((folder / kind).iterdir()) if path.name[0] != ".")
            shutil.copy(first, folder / "warm" / first.name)
        for kind in KINDS:
            n = sum(path.name[0] != "." for path in (folder / kind).iterdir())
            if getattr(options, kind):
                report(kind, n, measure(kind, folder, sys.argv[1:], options.repeats))


def report(kind: str, n: int, found: dict[str, dict[str, float]]) -> None:
    """Print the figures of one kind of images."""
    plain = found["plain"]
    for arm, one in found.items():
        print(
            f"{kind:8} {arm:6} {n / one['seconds']:7.2f}/s  {plain['seconds'] / one['seconds']:5.2f}x  "
            f"CPU {plain['cpu'] / one['cpu']:5.2f}x  peak {one['peak_mb']:6.0f} MB, of it "
            f"{one['peak_mb'] - one['before_mb']:5.0f} MB for these images"
        )


if __name__ == "__main__":
    main()
