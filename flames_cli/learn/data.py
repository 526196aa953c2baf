"""Cases as tensors: images in [-1, 1], masks 0 and 1. B batch, C channels (1 grey, 3 colour), H W pixels."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flames_cli.arrays import Mask
from flames_cli.core.imaging.geometry import Warp, apply_warp
from flames_cli.core.imaging.intensity import dequantise
from flames_cli.core.imaging.small_lesion_rule import Lesion, SmallLesionRule
from flames_cli.store.cases import CaseInfo, CaseSet

MEAN, STD = 0.5, 0.5
"""Of the normalisation (FLAMES, section 5.1): [0, 1] becomes [-1, 1]."""

AHEAD = 2
"""Batches prepared while one is trained on."""

Example = tuple[NDArray[np.float32], Mask]


class ShardDataset:
    """The cases of one or several sets, kept in memory in the precision of their files."""

    def __init__(self, sets: Sequence[CaseSet]) -> None:
        self._sets = [cases for cases in sets if len(cases)]
        self._where = [(number, row) for number, cases in enumerate(self._sets) for row in range(len(cases))]

    def __len__(self) -> int:
        return len(self._where)

    def case(self, index: int) -> CaseInfo:
        """What is known of case `index` beside its pixels."""
        number, row = self._where[index]
        return self._sets[number].cases[row]

    def organ(self, index: int) -> str:
        """The organ of case `index`."""
        return self._sets[self._where[index][0]].info.organ

    def dataset(self, index: int) -> str:
        """The data set of case `index`."""
        return self._sets[self._where[index][0]].info.dataset

    def small_rule(self, index: int) -> SmallLesionRule:
        """Which images of the data set of case `index` hold small lesions."""
        return self._sets[self._where[index][0]].info.small

    def lesion(self, index: int) -> Lesion:
        """Whether the lesions of case `index` are small or large by that rule; none: its mask is empty."""
        number, row = self._where[index]
        return self._sets[number].info.judge(self._sets[number].cases[row])

    def example(self, index: int, warp: Warp | None = None) -> Example:
        """Image (H×W or H×W×3, float32 in [0, 1]) and mask (H×W) of case `index`, warped alike."""
        number, row = self._where[index]
        cases = self._sets[number]
        image = dequantise(cases.images[row], cases.info.max_value)
        mask: Mask = cases.masks[row]
        return apply_warp(image, mask, warp) if warp else (image, mask)

    @property
    def n_bytes(self) -> int:
        """Memory that the pixels take."""
        return sum(cases.images.nbytes + cases.masks.nbytes for cases in self._sets)


def no_warp(_: int) -> Warp | None:
    """Cases as they are."""
    return None


def in_batches(order: Sequence[int], batch_size: int, merge_lone: bool = False) -> list[Sequence[int]]:
    """`order` in pieces of `batch_size`; the last one may be smaller.

    With `merge_lone`, a last batch of one case joins the one before: BatchNorm has too little to average over
    in one small image, and nothing where its deepest map is 1×1.
    """
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if merge_lone and batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        lone = batches.pop()
        batches[-1] = [*batches[-1], *lone]
    return batches


def iterate_batches(
    dataset: ShardDataset,
    order: Sequence[int],
    batch_size: int,
    warp_of: Callable[[int], Warp | None] = no_warp,
    workers: int = 0,
    merge_lone: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images B×C×H×W in [-1, 1], masks B×1×H×W), float32, in `order`, prepared ahead in threads.

    Args:
        dataset: where the cases are.
        order: indices of the cases.
        batch_size: images a batch (see `in_batches`, also for `merge_lone`).
        warp_of: the warp of a case, by index.
        workers: threads; 0: one a core, at most 8.
        merge_lone: whether a last batch of one joins the one before, as training wants.
    """
    waiting: deque[list[Future[Example]]] = deque()
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for batch in in_batches(order, batch_size, merge_lone):
            waiting.append([pool.submit(dataset.example, index, warp_of(index)) for index in batch])
            if len(waiting) > AHEAD:
                yield _collate([future.result() for future in waiting.popleft()])
        while waiting:
            yield _collate([future.result() for future in waiting.popleft()])


def _collate(examples: list[Example]) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.stack([image for image, _ in examples]))
    images = images[:, None] if images.ndim == 3 else images.movedim(3, 1)
    masks = torch.from_numpy(np.stack([mask for _, mask in examples])[:, None])
    return (images - MEAN) / STD, masks.float()
