"""Batches of a data set on the device that computes with them."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from flames_cli.core.imaging.geometry import Warp
from flames_cli.learn.data import Change, ShardDataset, in_batches, iterate_batches, no_warp
from flames_cli.learn.device_shard import SHARDS, to_device
from flames_cli.learn.devices import Precision, memory_format


def is_async(device: torch.device) -> bool:
    """Return whether `device` computes while this process goes on: no step then waits for a result."""
    return device.type == "cuda"


def batches_on(
    device: torch.device,
    precision: Precision,
    dataset: ShardDataset,
    order: Sequence[int],
    batch_size: int,
    warp_of: Callable[[int], Warp | None] = no_warp,
    merge_lone: bool = False,
    change: Change | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (images B×C×H×W in [-1, 1], masks B×1×H×W) in float32 on `device`.

    CUDA makes them of the data set in its own memory; where that has no room, and for a `change` of the
    images, which is a function of the CPU, the CPU's threads prepare them as for every other device (see
    `iterate_batches`, also for the arguments). Images have the memory format
    of `device` and `precision`.
    """
    layout = memory_format(device, precision)
    shard = SHARDS.find(dataset, device) if is_async(device) and len(order) and not change else None
    if shard:
        for cases in in_batches(order, batch_size, merge_lone):
            images, masks = shard.batch(cases, [warp_of(case) for case in cases])
            yield images.contiguous(memory_format=layout), masks
        return
    for images, masks in iterate_batches(
        dataset, order, batch_size, warp_of, merge_lone=merge_lone, change=change
    ):
        yield to_device(images, device).contiguous(memory_format=layout), to_device(masks, device)
