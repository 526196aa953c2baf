"""Writing of a model's files for other programs, each checked against torch before it gets its name."""

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.learn.formats import FORMAT_PATHS
from flames_cli.learn.formats.agreement import (
    BATCH_SIZES,
    Agreement,
    check_agreement,
    compare,
    random_batches,
    run_in_torch,
)
from flames_cli.learn.formats.any_size import UNROUNDED
from flames_cli.learn.formats.monai_bundle import require_monai, run_in_any_size, write_bundle
from flames_cli.learn.formats.monai_configs import PROGRAM
from flames_cli.learn.formats.onnx_files import PACKAGES, open_onnx, require_onnx, write_onnx
from flames_cli.learn.formats.programs import Normalised, batch_axis, build_program, example_images
from flames_cli.learn.formats.torch_export_files import open_torch_export, write_torch_export
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import replacing, replacing_folder
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.model_formats import WrittenFormat, record_format
from flames_cli.store.models import ModelInfo


def require_formats(formats: Sequence[str]) -> None:
    """Check that the packages which `formats` need are installed, before anything is written.

    Raises:
        FlamesError: a package is missing; the message has the command that installs it.
    """
    if "onnx" in formats:
        require_onnx()
    if "monai-bundle" in formats:
        require_monai()


def write_formats(
    folder: Path, info: ModelInfo, weights: Weights, formats: Sequence[str], images: NDArray[np.float32]
) -> list[WrittenFormat]:
    """Write a model's files for other programs into its folder, and return them with their checks.

    A file that differs from torch by more than TOLERANCE is not written; those before it stay.

    Args:
        folder: folder of the model.
        info: the model.
        weights: arrays by name.
        formats: names of FORMAT_PATHS.
        images: real images of the model's size for the check, N×S×S or N×S×S×3 float32 in [0, 1]; may be
            empty.

    Raises:
        FlamesError: a package is missing, torch cannot export the model, or a file differs from torch.
        NotWritten: the disk is full.
    """
    require_formats(formats)
    program = build_program(info, weights)
    written = []
    for name in dict.fromkeys(formats):
        agreement = _WRITERS[name](folder / FORMAT_PATHS[name], program, info, images)
        made = WrittenFormat(
            format=name,
            path=FORMAT_PATHS[name],
            largest_difference=agreement.largest_difference,
            random_images=agreement.random_images,
            real_images=agreement.real_images,
            batch_sizes=BATCH_SIZES,
            versions={package: metadata.version(package) for package in _PACKAGES[name]},
            weights_sha256=info.sha256,
        )
        record_format(folder, made)
        written.append(made)
    return written


def _write_onnx(path: Path, program: Normalised, info: ModelInfo, images: NDArray[np.float32]) -> Agreement:
    with replacing(path) as temporary:
        write_onnx(temporary, program, info)
        agreement = compare(open_onnx(temporary), run_in_torch(program), random_batches(info), images)
        check_agreement(agreement, "the ONNX file", info.name)
    return agreement


def _write_torch_export(
    path: Path, program: Normalised, info: ModelInfo, images: NDArray[np.float32]
) -> Agreement:
    with replacing(path) as temporary:
        write_torch_export(temporary, program, example_images(info), batch_axis(), info)
        run = open_torch_export(temporary)
        agreement = compare(run, run_in_torch(program), random_batches(info), images)
        check_agreement(agreement, "the torch.export file", info.name)
    return agreement


def _write_bundle(path: Path, program: Normalised, info: ModelInfo, images: NDArray[np.float32]) -> Agreement:
    with replacing_folder(path) as temporary:
        write_bundle(temporary, program, info)
        # A pixel between two steps may be rounded up in one and down in the other.
        run = open_torch_export(temporary / PROGRAM, levels=UNROUNDED)
        expected = run_in_any_size(program, info.input.size)
        agreement = compare(run, expected, random_batches(info, _shapes(info.input.size)), images)
        check_agreement(agreement, "the network of the MONAI bundle", info.name)
        if path.exists() and not _are_same(path, temporary):
            set_aside(path)  # the user may have changed its configuration
    return agreement


def _shapes(size: int) -> list[tuple[int, int]]:
    """Return the shapes of random images for each of BATCH_SIZES: the model's, higher, and wider."""
    return [(size, size), (2 * size + 1, size + 6), (size // 2 + 1, size + 5)]


def _are_same(left: Path, right: Path) -> bool:
    """Return whether two folders have the same files with the same content."""
    files = [
        {path.relative_to(folder): hash_file(path) for path in folder.rglob("*") if path.is_file()}
        for folder in (left, right)
    ]
    return files[0] == files[1]


_WRITERS: dict[str, Callable[[Path, Normalised, ModelInfo, NDArray[np.float32]], Agreement]] = {
    "onnx": _write_onnx,
    "torch-export": _write_torch_export,
    "monai-bundle": _write_bundle,
}
_PACKAGES = {"onnx": ("torch", *PACKAGES), "torch-export": ("torch",), "monai-bundle": ("torch", "monai")}
