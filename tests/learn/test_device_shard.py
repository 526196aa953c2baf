import gc
import weakref

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.imaging.geometry import apply_warp
from flames_cli.core.rng import derive_rng
from flames_cli.learn import batches
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.batches import batches_on
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.device_shard import DeviceShard, DeviceShards, size_of, warp_batch
from tests.support.asynchronous import pretend_asynchronous
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")


def grey():
    return ShardDataset([draw_discs(5)])


def mixed():
    """Sets of 8 and of 16 bits in one data set."""
    return ShardDataset([draw_discs(3), draw_discs(2, seed=1, max_value=65535)])


def coloured():
    return ShardDataset([draw_discs(4, channels=3)])


def warp(index):
    return draw_warp(derive_rng(3, "test", index))


@pytest.mark.parametrize("make", [grey, mixed, coloured])
def test_cases_without_a_warp_are_those_of_the_cpu_bit_for_bit(make):
    dataset = make()
    order = [2, 0, 3, 1]
    ((images, masks),) = iterate_batches(dataset, order, 4)
    found = DeviceShard(dataset, CPU).batch(order, [None] * 4)
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


@pytest.mark.parametrize("make", [grey, mixed, coloured])
def test_warped_cases_are_near_those_of_the_cpu(make):
    dataset, order = make(), [3, 0, 1]
    ((images, masks),) = iterate_batches(dataset, order, 3, warp)
    found = DeviceShard(dataset, CPU).batch(order, [warp(index) for index in order])
    assert found[0].shape == images.shape
    assert (found[0] - images).abs().mean() < 0.04  # discs have sharp edges, of 16×16 pixels
    assert (found[1] != masks).float().mean() < 0.005


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_smooth_image_is_warped_to_the_same_places_as_on_the_cpu(seed):
    """A shift of half a pixel would change these images by 0.02."""
    place = np.linspace(0, 3, 48, dtype=np.float32)
    image = 0.5 + 0.4 * np.sin(place)[:, None] * np.cos(2 * place)[None]
    mask = (image > 0.6).astype(np.uint8)
    drawn = draw_warp(derive_rng(seed, "smooth"))
    expected, expected_mask = apply_warp(image, mask, drawn)
    tensors = (torch.from_numpy(one)[None, None].float() for one in (image, mask))
    found, found_mask = (one[0, 0].numpy() for one in warp_batch(*tensors, [drawn]))
    # Not near the border, where the kernels fall to black in different ways.
    covered = apply_warp(image, np.ones_like(mask), drawn)[1]
    inside = cv2.erode(np.pad(covered, 4), np.ones((9, 9), np.uint8), borderValue=0)[4:-4, 4:-4] > 0
    assert np.abs(found - expected)[inside].max() < 0.005
    assert np.mean(found_mask != expected_mask) < 0.005


def test_a_data_set_is_copied_once_and_leaves_with_it():
    dataset, shards = grey(), DeviceShards(lambda _: 2**30)
    first = weakref.ref(shards.find(dataset, CPU))
    assert shards.find(dataset, CPU) is first()
    del dataset
    gc.collect()
    assert first() is None


def test_the_size_on_a_device_counts_16_bits_for_all_images_if_some_have_them():
    assert size_of(grey()) == grey().n_bytes
    pixels = sum(masks.size for _, masks, _ in mixed().arrays())
    assert size_of(mixed()) == 3 * pixels > mixed().n_bytes


def test_a_data_set_that_does_not_fit_has_no_shard():
    dataset = grey()
    assert DeviceShards(lambda _: 4 * dataset.n_bytes).find(dataset, CPU)
    assert DeviceShards(lambda _: 4 * dataset.n_bytes - 4).find(dataset, CPU) is None


@pytest.mark.parametrize("free", [2**30, 0])
def test_batches_come_from_the_shard_or_from_the_threads_in_the_same_order(free, monkeypatch):
    dataset, order = mixed(), [4, 2, 0, 1, 3]
    expected = list(iterate_batches(dataset, order, 2, merge_lone=True))
    pretend_asynchronous(monkeypatch, free)
    found = list(batches_on(CPU, "fp32", dataset, order, 2, merge_lone=True))
    assert (batches.SHARDS.find(dataset, CPU) is None) == (free == 0)
    assert [len(images) for images, _ in found] == [2, 3]
    for (images, masks), (own, truth) in zip(found, expected, strict=True):
        assert torch.equal(images, own)
        assert torch.equal(masks, truth)


def test_no_cases_are_no_batches(monkeypatch):
    pretend_asynchronous(monkeypatch)
    assert list(batches_on(CPU, "fp32", ShardDataset([]), [], 4)) == []
