"""Write pictures for people as PNG."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.store.files.atomic import write_bytes

COMPRESSION = 3
"""Level of compression: higher ones take several times as long and save a few percent."""


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an H×W×3 picture (red, green, blue) as PNG, atomically.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".png", turned, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    write_bytes(path, content.tobytes())
