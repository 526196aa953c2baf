"""Images whose masks are known, and the command as a function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PredictConfig
from flames_cli.core.rng import derive_rng


@pytest.fixture
def run_predict(tmp_path: Path) -> Callable[..., Any]:
    """run_predict(model, input, …, option=…): predict on the CPU, without pictures."""
    from flames_cli.stages.predict.stage import predict

    def run(models: Any, /, *inputs: Any, **options: Any) -> Any:
        named = models if isinstance(models, list | tuple) else [models]
        plain = {"device": "cpu", "precision": "fp32", "overlays": False, "workspace": tmp_path / "ws"}
        chosen = {"models": [str(one) for one in named], "out": tmp_path / "out", **plain, **options}
        return predict(PredictConfig(inputs=[str(one) for one in inputs], **chosen))

    return run


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return a mask with several parts, not symmetric in any direction."""
    mask = derive_rng(seed, "blobs", *shape).random(shape) > 0.7
    mask[tuple(slice(1, max(2, n // 3)) for n in shape)] = True
    return mask


def write_volume(
    path: Path, mask: np.ndarray, axes: str = "RAS", spacing: Any = (1.0, 2.0, 3.0)
) -> np.ndarray:
    """Write a NIfTI file whose voxels in `mask` (in the order of the file) are bright; return its affine."""
    affine = np.zeros((4, 4))
    for column, code in enumerate(axes):
        row = next(row for row, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[row, column] = spacing[column] * (1 if code in "RAS" else -1)
    affine[:, 3] = 7, -3, 11, 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.where(mask, 90, 10).astype(np.int16), affine), path)
    return affine


def write_still(path: Path, mask: np.ndarray, colour: bool = False) -> Path:
    """Write an image of 8 bits whose pixels in `mask` are bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.where(mask, 230, 20).astype(np.uint8)
    Image.fromarray(np.dstack([pixels] * 3) if colour else pixels).save(path)
    return path
