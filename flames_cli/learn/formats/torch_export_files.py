"""torch.export file (.pt2) of a model: images in [0, 1] in, probabilities out; any batch size.

A .pt2 file may contain pickles, and torch reads them without restriction if its own restricted reader fails.
So this module opens only files that it has just written.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from flames_cli.errors import FlamesError
from flames_cli.learn.formats.describing import describe_model
from flames_cli.learn.formats.programs import quiet, reason_of, trace
from flames_cli.store.models import ModelInfo

EXTRA = "flames.json"
"""Name of the model's description within the file."""


def write_torch_export(
    path: Path, program: nn.Module, image: Tensor, dynamic: Mapping[int, Dim], info: ModelInfo
) -> None:
    """Write the torch.export file of a model.

    Args:
        path: the file.
        program: images in [0, 1] to probabilities, in evaluation mode.
        image: an example of its input.
        dynamic: axes of the input whose length may change, by index.
        info: the model.

    Raises:
        FlamesError: torch cannot trace the model.
        OSError: the file cannot be written.
    """
    archive = io.BytesIO()
    try:
        exported = trace(program, image, dynamic)
        with quiet():
            # In memory, since torch writes the file's name, here a temporary one, into the archive.
            torch.export.save(exported, archive, extra_files={EXTRA: json.dumps(describe_model(info))})
    except Exception as error:  # the exporter raises many kinds of exceptions
        raise FlamesError(
            f"torch.export cannot trace model {info.name} ({reason_of(error)}), expected a model that it "
            "supports; leave --format torch-export and --format monai-bundle out"
        ) from error
    path.write_bytes(archive.getbuffer())


def open_torch_export(path: Path, **buffers: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function of a file that this process has written: images to probabilities, on the CPU.

    `buffers` are new values of buffers of the program, by name.
    """
    with quiet():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()
        for name, value in buffers.items():
            module.get_buffer(name).fill_(value)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with quiet():
            found: NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        return found

    return run
