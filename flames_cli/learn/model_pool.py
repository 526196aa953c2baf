"""Models that a process has built, which its clients and rounds use one after another.

Building a large model and moving it to a device takes as long as several steps, and only a model that keeps
its place in memory can repeat recorded steps (`learn.steps`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

from flames_cli.learn.devices import Precision, place
from flames_cli.learn.models import build_model
from flames_cli.learn.models.base import SegmentationModel

Shape = tuple[object, ...]
"""Values that are equal for two models that may stand in for each other."""


class ModelPool:
    """Models that are not in use, the newest of each device."""

    def __init__(self) -> None:
        self._free: dict[torch.device, tuple[Shape, SegmentationModel]] = {}
        self._lock = Lock()

    @contextmanager
    def lend(
        self, name: str, norm: str, options: Mapping[str, Any], device: torch.device, precision: Precision
    ) -> Iterator[SegmentationModel]:
        """Lend a model on `device` in training mode to the block, which uses it alone.

        Its weights are arbitrary: load all of them. The arguments are those of `build_model`.
        """
        shape = (name, norm, tuple(sorted(options.items())), precision)
        with self._lock:
            found, model = self._free.pop(device, (None, None))
        if model is None or found != shape:
            model = None  # frees its memory before the new one needs some
            built = build_model(name, seed=0, norm=norm, **options)
            model = place(built, device, precision)
        try:
            yield model.train()
        finally:
            model.zero_grad(set_to_none=True)
            with self._lock:
                self._free[device] = (shape, model)


POOL = ModelPool()
