"""Preparation and its way back as part of a program, for programs that do not have FLAMES.

B batch, C channels, H W pixels of an image, S side of the model's images. A matrix of S×H (or H×S) numbers
resamples one axis, so that torch.export needs no rule about H and W.
"""

from typing import Any

import torch
from torch import SymInt, Tensor, nn
from torch.export import Dim

from flames_cli.core.imaging.intensity import MAX_12_BIT
from flames_cli.core.imaging.resampling import TAPS

UNROUNDED = 2.0**22
"""Value of `levels` with which float32 is not rounded any more, for comparisons."""

MAX_SIDE = 8192
"""Largest H and W; the matrix of one axis takes memory in proportion to them."""


class AnySize(nn.Module):
    """A program for images of S×S pixels as one for images of any size: B×C×H×W in [0, 1] to B×1×H×W.

    Images are padded and resized as `core.imaging.geometry.to_square` does it, and rounded to `levels` steps
    as stored images are; probabilities are brought back as by `map_from_square`.
    """

    levels: Tensor
    """Number of steps from 0 to 1 of a prepared image: MAX_12_BIT for volumes, MAX_8_BIT for stills of 8
    bits. A buffer, so that it can be set in the exported program."""

    def __init__(self, program: nn.Module, size: int) -> None:
        super().__init__()
        self.program = program
        self.size = size
        self.register_buffer("levels", torch.tensor(float(MAX_12_BIT)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability of tumour in [0, 1], B×1×H×W, of images B×C×H×W in [0, 1]."""
        height, width = image.shape[2], image.shape[3]
        side = torch.sym_max(height, width)
        rows, columns = side - height, side - width
        top, left = rows - rows // 2, columns - columns // 2  # the margin before gets an odd pixel
        down = _lanczos(height, top, side, self.size).to(image)
        across = _lanczos(width, left, side, self.size).to(image)
        square = (down @ image @ across.mT).clamp(0, 1)
        probability = self.program((square * self.levels).round() / self.levels)
        up = _linear(height, top, side, self.size).to(image)
        along = _linear(width, left, side, self.size).to(image)
        raised: Tensor = (up @ probability @ along.mT).clamp(0, 1)
        return raised


def any_size_axes() -> dict[int, Dim]:
    """Return the axes of an image whose length may change: batch, rows and columns."""
    return {
        0: Dim("batch", min=1),
        2: Dim("height", min=2, max=MAX_SIDE),
        3: Dim("width", min=2, max=MAX_SIDE),
    }


def _lanczos(n: int | SymInt, before: int | SymInt, side: int | SymInt, size: int) -> Tensor:
    """Return the size×n weights of `core.imaging.resampling`, of n pixels after `before` black ones."""
    ratio: Any = side / size  # torch's stubs know no arithmetic with symbols
    last: Any = side - 1
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * ratio - 0.5
    first = centre.floor()
    steps = torch.arange(TAPS, dtype=torch.float64) - (TAPS // 2 - 1)
    distance = (centre - first)[:, None] - steps
    weights = torch.sinc(distance) * torch.sinc(distance / (TAPS // 2))
    weights = weights / weights.sum(dim=1, keepdim=True)
    source = (first[:, None] + steps).clamp(min=0).minimum(torch.ones(()) * last) - before
    hits = source[:, :, None] == torch.arange(n, dtype=torch.float64)
    matrix: Tensor = (weights[:, :, None] * hits).sum(dim=1)
    return matrix


def _linear(n: int | SymInt, before: int | SymInt, side: int | SymInt, size: int) -> Tensor:
    """Return the n×size weights of linear interpolation at n pixels after `before` black ones."""
    ratio: Any = size / side
    start: Any = before + 0.5
    centre = (torch.arange(n, dtype=torch.float64) + start) * ratio - 0.5
    distance = centre.clamp(0, size - 1)[:, None] - torch.arange(size, dtype=torch.float64)
    matrix: Tensor = (1 - distance.abs()).clamp(min=0)
    return matrix
