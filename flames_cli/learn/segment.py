"""Masks and features of a run's model, for stages that do not use torch themselves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flames_cli.arrays import Mask, Weights
from flames_cli.learn.batches import batches_on
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import autocast, pick_device, pick_precision, place
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.predict import MaskRule, Tta, predict_probabilities, to_cpu_behind


class Segmenter:
    """One architecture on one device; each call passes the weights to use.

    Several iterators of predictions may be in use in turn: each has its own weights for every batch.
    """

    def __init__(
        self,
        model: str,
        options: Mapping[str, Any],
        device: str,
        precision: str,
        batch_size: int,
        norm: str = "batch",
    ) -> None:
        self._device = pick_device(device)
        self._precision = pick_precision(precision, self._device, model)
        built = build_model(model, seed=0, norm=norm, **options)
        self._model = place(built, self._device, self._precision)
        self._batch_size = batch_size
        self._user = object()
        """Call whose weights the model has."""

    def masks(
        self,
        weights: Weights,
        dataset: ShardDataset,
        order: Sequence[int] | None = None,
        rule: MaskRule | None = None,
    ) -> Iterator[Mask]:
        """Yield one H×W mask of 0 and 1 for each case in `order` (None: all), by `rule` (None:
        MaskRule()).

        With `largest_only`, each image is cleaned alone. The slices of a volume belong together: predict them
        without it, and clean the volume by `largest_component`.
        """
        how = rule or MaskRule()
        yield from map(how.mask, self.probabilities(weights, dataset, order, how.tta))

    def probabilities(
        self, weights: Weights, dataset: ShardDataset, order: Sequence[int] | None = None, tta: Tta = "none"
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the probability of tumour, H×W float32 in [0, 1], for each case in `order` (None: all)."""
        for found in to_cpu_behind(self._batches(weights, dataset, order, tta), self._device):
            yield from found.numpy()

    def _batches(
        self, weights: Weights, dataset: ShardDataset, order: Sequence[int] | None, tta: Tta
    ) -> Iterator[Tensor]:
        """Yield probabilities B×H×W on the device; `weights` must not change until the last one."""
        batches = predict_probabilities(
            self._model, dataset, self._batch_size, self._device, self._precision, order, tta
        )
        user = object()
        while True:
            # True at first, and after another call has used the model.
            if self._user is not user:
                load_weights(self._model, weights)
                self._user = user
            if (batch := next(batches, None)) is None:
                return
            yield batch[0][:, 0]

    def features(self, weights: Weights, dataset: ShardDataset, order: Sequence[int]) -> NDArray[np.float32]:
        """Return the bottleneck features of each case in `order`, averaged over pixels: N×C float32."""
        load_weights(self._model, weights)
        self._user = object()
        self._model.eval()
        pooled = []
        for images, _ in batches_on(self._device, self._precision, dataset, order, self._batch_size):
            with torch.inference_mode(), autocast(self._device, self._precision):
                deepest = self._model.bottleneck(images)
                pooled.append(deepest.float().mean(dim=(2, 3)))
        return torch.cat(pooled).cpu().numpy()


class Ensemble(Segmenter):
    """Several models, each with its weights; a probability is the mean of theirs."""

    def __init__(self, members: Sequence[tuple[Segmenter, Weights]]) -> None:
        self._members = members

    def probabilities(
        self,
        weights: Weights,  # noqa: ARG002 (each member has its own)
        dataset: ShardDataset,
        order: Sequence[int] | None = None,
        tta: Tta = "none",
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the mean probability of tumour, H×W float32 in [0, 1], for each case in `order` (None: all);
        `weights` are not used."""
        found = [segmenter.probabilities(own, dataset, order, tta) for segmenter, own in self._members]
        for maps in zip(*found, strict=True):
            mean: NDArray[np.float64] = np.stack(maps).mean(axis=0, dtype=np.float64)
            yield mean.astype(np.float32)
