"""Array types of the package. H W pixels; N cases."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""H×W image (H×W×3 in colour) in the precision of its source (uint8, uint16) or float32 in [0, 1]."""

Mask = NDArray[np.uint8]
"""H×W mask: 1 in a lesion, else 0."""

Floats = NDArray[np.float64]

Weights = dict[str, NDArray[Any]]
"""State dict of a model as numpy arrays: parameters and buffers, by name."""
