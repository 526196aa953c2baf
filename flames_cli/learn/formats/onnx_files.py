"""ONNX file of a model: images in [0, 1] in, probabilities out; any batch size."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flames_cli.errors import FlamesError, install_extra
from flames_cli.learn.formats.describing import describe_model
from flames_cli.learn.formats.programs import (
    IMAGE,
    PROBABILITY,
    Normalised,
    batch_axis,
    example_images,
    quiet,
    reason_of,
)
from flames_cli.store.models import ModelInfo

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Packages of the extra `onnx`."""


def require_onnx() -> None:
    """Check that the packages of the extra `onnx` are installed.

    Raises:
        FlamesError: one is missing; the message has the command that installs it.
    """
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise FlamesError(
                f"--format onnx needs the package {package}, which is not installed; "
                f"run {install_extra('onnx')}, or leave --format onnx out"
            ) from error


def write_onnx(path: Path, program: Normalised, info: ModelInfo) -> None:
    """Write the ONNX file of a model, by torch's exporter that uses torch.export.

    Raises:
        FlamesError: torch cannot export the model.
        OSError: the file cannot be written.
    """
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                (example_images(info),),
                dynamo=True,
                verbose=False,
                input_names=[IMAGE],
                output_names=[PROBABILITY],
                dynamic_shapes={IMAGE: batch_axis()},
                external_data=False,
            )
            content = _finished(made, info)
    except Exception as error:  # the exporter raises many kinds of exceptions
        raise FlamesError(
            f"torch cannot write model {info.name} as ONNX ({reason_of(error)}), expected a model of less "
            "than 2 GB that its exporter supports; leave --format onnx out"
        ) from error
    path.write_bytes(content)


def open_onnx(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function of a file, computed by onnxruntime: images to probabilities, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([PROBABILITY], {IMAGE: images})[0]
        return found

    return run


def _finished(made: torch.onnx.ONNXProgram | None, info: ModelInfo) -> bytes:
    """Return the bytes of the file, with the model's description and without the folders of this machine."""
    if made is None:
        raise RuntimeError("no program")
    made.model.metadata_props.update(describe_model(info))
    for node in made.model.graph:
        node.metadata_props.clear()
    content: bytes = made.model_proto.SerializeToString()
    return content
