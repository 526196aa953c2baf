"""Folder that MONAI's bundle runner opens: configurations, the network as a .pt2 file, and a README."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flames_cli.core.imaging.geometry import map_from_square, to_square
from flames_cli.errors import FlamesError, install_extra
from flames_cli.learn.formats.any_size import MAX_SIDE, AnySize, any_size_axes
from flames_cli.learn.formats.monai_configs import (
    PROGRAM,
    find_rule,
    inference_config,
    metadata_config,
    stills_config,
)
from flames_cli.learn.formats.programs import BATCH, Normalised
from flames_cli.learn.formats.torch_export_files import write_torch_export
from flames_cli.store.files.atomic import write_json, write_text
from flames_cli.store.models import ModelInfo

README = "docs/README.md"

UNKNOWN_RULE = (
    " The model does not state the rule of its training images; this one is the default of FLAMES: edit "
    "`preprocessing` if they were prepared by another."
)
MOVED = """- The masks of the training images were resized as the authors of FLAMES do it, which moves them by
  up to half a pixel. `flames predict` moves masks back, the bundle does not.
"""
"""Difference of a model whose masks were resized by the method `paper`."""


def require_monai() -> None:
    """Check that MONAI is installed, whose version the bundle states; it is not imported.

    Raises:
        FlamesError: it is missing; the message has the command that installs it.
    """
    if find_spec("monai") is None:
        raise FlamesError(
            "--format monai-bundle needs the package monai, which is not installed; "
            f"run {install_extra('monai-bundle')}, or leave --format monai-bundle out"
        )


def write_bundle(folder: Path, program: Normalised, info: ModelInfo) -> None:
    """Write a MONAI bundle into an empty folder.

    Its network takes images of any size: it makes them square and resizes them as FLAMES does, since MONAI
    has no Lanczos resampling, and brings the probabilities back.

    Raises:
        FlamesError: torch cannot trace the model.
        OSError: a file cannot be written.
    """
    network = AnySize(program, info.input.size).eval()
    # Other lengths than the model's own, so that torch makes no constants of them.
    image = torch.zeros(BATCH, info.input.channels, info.input.size + 9, info.input.size + 4)
    (folder / PROGRAM).parent.mkdir(parents=True)
    write_torch_export(folder / PROGRAM, network, image, any_size_axes(), info)
    write_json(folder / "configs/metadata.json", metadata_config(info))
    write_json(folder / "configs/inference.json", inference_config(info))
    write_json(folder / "configs/stills.json", stills_config(info))
    write_text(folder / README, write_readme(info))


def run_in_any_size(program: Normalised, size: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function with which a bundle is compared: FLAMES' own preparation, the model, and the way
    back, of images N×C×H×W."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = images.shape[2:]
        made = np.empty((len(images), 1, height, width), np.float32)
        for number, image in enumerate(images):
            pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)
            square, _ = to_square(pixels, np.zeros((height, width), np.uint8), size)
            channels = square[None] if square.ndim == 2 else np.moveaxis(square, 2, 0)
            batch = torch.from_numpy(np.ascontiguousarray(channels.clip(0, 1)[None]))
            with torch.no_grad():
                found = program(batch).numpy()[0, 0]
            made[number, 0] = map_from_square(found, height, width)
        return made

    return run


def write_readme(info: ModelInfo) -> str:
    """Return docs/README.md of a bundle: how it is run, what it does, and where it differs from FLAMES."""
    given, rule = info.input, find_rule(info)
    organs = f" of {', '.join(given.organs)}" if given.organs else ""
    others = ""
    if not given.intensities:
        others = UNKNOWN_RULE
    if len(given.intensities) > 1:
        rest = "; ".join(str(one) for one in given.intensities[1:])
        others = f" Other training images have other rules ({rest}): edit `preprocessing` for such images."
    moved = "" if given.mask_resize == "aligned" else MOVED
    return f"""# {info.name}

Segmentation of tumours in {given.modality} images{organs}, by {info.architecture.model}.
For research, not for diagnosis.

## Run

`pip install 'monai[fire,ignite,nibabel,pillow]'`. In the folder of the bundle, for volumes (NIfTI):

```
python -m monai.bundle run --config_file configs/inference.json \\
  --meta_file configs/metadata.json --dataset_dir DIR --output_dir OUT
```

For still images of 8 bits (PNG, JPEG, BMP):

```
python -m monai.bundle run --config_file "['configs/inference.json','configs/stills.json']" \\
  --meta_file configs/metadata.json --dataset_dir DIR --output_dir OUT
```

`OUT/NAME_mask.nii.gz` is 1 where there is tumour, in the voxels of its volume; `OUT/NAME_mask.png` is 255.
`--threshold 0.4` uses another probability than {info.threshold:g}.

## What it does

- Volumes: the first channel, {given.plane} slices, intensities to [0, 1]: {rule}.{others}
- Still images: {"grey" if given.channels == 1 else "red, green and blue"}, divided by 255.
- `models/model.pt2` pads each image to a square, resizes it to {given.size}×{given.size} pixels by Lanczos,
  rounds it to 12 bits (stills: 8) as FLAMES does, computes the probability of tumour, and brings it back to
  the pixels of the image by linear interpolation. It takes images from 2×2 to {MAX_SIDE}×{MAX_SIDE} pixels,
  and any batch.

`torch.export.load` may unpickle, and so run code, if a file was made to do so: use `model.pt2` only from
people you trust.

## Differences from `flames predict`

- FLAMES reads more kinds of images (DICOM, TIFF, 16 bits), turns photos by their EXIF tag, and rejects
  damaged files.
{moved}"""
