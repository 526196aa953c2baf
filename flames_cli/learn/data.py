"""Cases as tensors: images in [-1, 1], masks of 0 and 1.

B batch, C channels (1 grey, 3 colour), H W pixels.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.cores import available_cores
from flames_cli.core.imaging.geometry import Warp, apply_warp
from flames_cli.core.imaging.intensity import dequantise
from flames_cli.core.imaging.small_lesion_rule import Lesion, SmallLesionRule
from flames_cli.store.cases import CaseInfo, CaseSet
from flames_cli.store.volumes import StoredVolume, find_volumes

MEAN, STD = 0.5, 0.5
"""Constants of the normalisation (FLAMES paper, section 5.1): [0, 1] becomes [-1, 1]."""

AHEAD = 2
"""Number of batches that threads prepare while the model trains on one."""

Example = tuple[NDArray[np.float32], Mask]

Change = Callable[[int, NDArray[np.float32]], NDArray[np.float32]]
"""Function that changes the intensities of a case's image, given its index and its pixels in [0, 1]."""


class ShardDataset:
    """Cases of one or several sets, stored in memory in the precision of their files."""

    def __init__(self, sets: Sequence[CaseSet]) -> None:
        self._sets = [cases for cases in sets if len(cases)]
        self._where = [(number, row) for number, cases in enumerate(self._sets) for row in range(len(cases))]
        self.selected = [index for index in range(len(self)) if self.case(index).selected]
        """Indices of the selected cases; the others only complete a volume."""

    def __len__(self) -> int:
        return len(self._where)

    def case(self, index: int) -> CaseInfo:
        """Return what is known about case `index` in addition to its pixels."""
        number, row = self._where[index]
        return self._sets[number].cases[row]

    def organ(self, index: int) -> str:
        """Return the organ of case `index`."""
        return self._sets[self._where[index][0]].info.organ

    def dataset(self, index: int) -> str:
        """Return the name of the data set of case `index`."""
        return self._sets[self._where[index][0]].info.dataset

    def small_rule(self, index: int) -> SmallLesionRule:
        """Return the rule for small lesions of the data set that contains case `index`."""
        return self._sets[self._where[index][0]].info.small

    def patient_unit(self, index: int) -> str:
        """Return the unit that counts as a patient in the data set that contains case `index`."""
        return self._sets[self._where[index][0]].info.patient_unit

    def lesion(self, index: int) -> Lesion:
        """Return the size of case `index`: "small" or "large" by that rule, "none" for an empty mask."""
        number, row = self._where[index]
        return self._sets[number].info.judge(self._sets[number].cases[row])

    def example(self, index: int, warp: Warp | None = None) -> Example:
        """Return case `index`, warped: image (H×W or H×W×3, float32 in [0, 1]) and mask (H×W)."""
        number, row = self._where[index]
        cases = self._sets[number]
        image = dequantise(cases.images[row], cases.info.max_value)
        mask: Mask = cases.masks[row]
        return apply_warp(image, mask, warp) if warp else (image, mask)

    def mask(self, index: int) -> Mask:
        """Return the true mask of case `index`, H×W of 0 and 1."""
        number, row = self._where[index]
        mask: Mask = self._sets[number].masks[row]
        return mask

    def arrays(self) -> Iterator[tuple[Pixels, Mask, int]]:
        """Yield images, masks and the largest value of each set, in the order of the indices."""
        for cases in self._sets:
            yield cases.images, cases.masks, cases.info.max_value

    @cached_property
    def volumes(self) -> list[StoredVolume]:
        """The volumes of which all slices are there; an index of theirs is one of this data set."""
        found = find_volumes((self.dataset(index), self.case(index)) for index in range(len(self)))
        return [volume for volume in found if volume.is_complete]

    @property
    def n_patients(self) -> int:
        """Number of different patients, or of the units that count as patients."""
        return self.count_patients(range(len(self)))

    def count_patients(self, cases: Iterable[int]) -> int:
        """Return the number of different patients among `cases`, or of the units that count as patients."""
        found = ((self._sets[self._where[index][0]].info, self.case(index)) for index in cases)
        return len({(info.collection or info.dataset, case.patient) for info, case in found})

    @property
    def n_bytes(self) -> int:
        """Memory that images and masks occupy, in bytes."""
        return sum(cases.images.nbytes + cases.masks.nbytes for cases in self._sets)


def no_warp(_: int) -> Warp | None:
    """Return None: every case is used without a warp."""
    return None


def in_batches(order: Sequence[int], batch_size: int, merge_lone: bool = False) -> list[Sequence[int]]:
    """Divide `order` into batches of `batch_size` cases; the last batch may be smaller.

    With `merge_lone`, a last batch of one case is added to the batch before it. BatchNorm has too few values
    to average in one small image, and only one value where the deepest feature map has 1×1 pixels.
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
    change: Change | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (images B×C×H×W in [-1, 1], masks B×1×H×W) in float32; threads prepare them ahead.

    Args:
        dataset: the data set that contains the cases.
        order: indices of the cases, in the order in which they are yielded.
        batch_size: number of images in a batch (see `in_batches`, also for `merge_lone`).
        warp_of: function that returns the warp of the case with the given index, or None.
        workers: number of threads; 0: one per core, at most 8.
        merge_lone: add a last batch of one case to the batch before it, as training needs.
        change: change of the images after their warp; None: there is none.
    """
    waiting: deque[list[Future[Example]]] = deque()

    def prepare(index: int) -> Example:
        image, mask = dataset.example(index, warp_of(index))
        return (change(index, image) if change else image), mask

    with ThreadPoolExecutor(workers or min(8, available_cores())) as pool:
        for batch in in_batches(order, batch_size, merge_lone):
            waiting.append([pool.submit(prepare, index) for index in batch])
            if len(waiting) > AHEAD:
                yield _collate([future.result() for future in waiting.popleft()])
        while waiting:
            yield _collate([future.result() for future in waiting.popleft()])


def to_inputs(images: NDArray[np.float32]) -> Tensor:
    """Return N×H×W or N×H×W×3 images in [0, 1] as the input of a model: N×C×H×W in [-1, 1]."""
    channels_first = torch.from_numpy(images)
    channels_first = channels_first[:, None] if images.ndim == 3 else channels_first.movedim(3, 1)
    return (channels_first - MEAN) / STD


def _collate(examples: list[Example]) -> tuple[Tensor, Tensor]:
    masks = torch.from_numpy(np.stack([mask for _, mask in examples])[:, None])
    return to_inputs(np.stack([image for image, _ in examples])), masks.float()
