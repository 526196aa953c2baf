"""Write the masks and probabilities of stills as PNG of the size of the image."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flames_cli.store.files.atomic import write_bytes
from flames_cli.writers.label import Content, ModelLabel

WHITE, MAX_16_BIT = 255, 65535


def write_png(path: Path, values: NDArray[Any], content: Content, by: ModelLabel) -> None:
    """Write H×W values: a mask with 8 bits (0 and 255), probabilities with 16 bits (65535 is 1).

    The file states its origin, and the scale of probabilities, as text (`Description`).

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    if content == "mask":
        pixels, scale = (values > 0).astype(np.uint8) * np.uint8(WHITE), ""
    else:
        pixels = np.rint(np.clip(values, 0, 1) * MAX_16_BIT).astype(np.uint16)
        scale = f"; probability = value / {MAX_16_BIT}"
    texts = PngInfo()
    texts.add_itxt("Description", by.describe(content) + scale)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=texts)
    write_bytes(path, buffer.getvalue())
