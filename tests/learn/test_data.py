from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.core.imaging.geometry import Warp, apply_warp
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule
from flames_cli.core.imaging.volumes import Placement
from flames_cli.learn.data import ShardDataset, in_batches, iterate_batches
from tests.support.datasets import draw_discs


@pytest.fixture
def mixed():
    """Two data sets of different precision with an empty one between them."""
    empty = draw_discs(0, dataset="none")
    return ShardDataset(
        [draw_discs(3), empty, draw_discs(2, seed=1, max_value=65535, dataset="otu2d", organ="ovary")]
    )


def all_of(dataset, **options):
    images, masks = zip(*iterate_batches(dataset, range(len(dataset)), 2, **options), strict=True)
    return torch.cat(images), torch.cat(masks)


def test_sets_follow_one_another(mixed):
    assert len(mixed) == 5
    assert [mixed.case(index).case for index in range(5)] == [
        "busi-0",
        "busi-1",
        "busi-2",
        "otu2d-0",
        "otu2d-1",
    ]
    assert [mixed.dataset(index) for index in range(5)] == ["busi"] * 3 + ["otu2d"] * 2
    assert [mixed.organ(index) for index in range(5)] == ["breast"] * 3 + ["ovary"] * 2


def test_selected_cases_and_complete_volumes_are_known_by_their_indices():
    discs, stills = draw_discs(5, dataset="brats"), draw_discs(2)
    place = Placement("axial", 0, (16, 16, 3), "RAS", tuple(np.eye(4).ravel().tolist()))
    slices = [("a", 2), ("a", 0), ("b", 0), ("a", 1), ("b", 2)]
    cases = [
        replace(case, case=f"{name}/z{index}", place=replace(place, index=index), selected=index == 0)
        for case, (name, index) in zip(discs.cases, slices, strict=True)
    ]
    dataset = ShardDataset([stills, replace(discs, cases=cases)])
    assert dataset.selected == [0, 1, 3, 4]
    assert [(volume.name, volume.indices) for volume in dataset.volumes] == [("a", (3, 5, 2))]


def test_lesions_are_small_or_large_by_the_rule_of_their_data_set():
    discs_, others = draw_discs(2), draw_discs(1, dataset="otu2d", organ="ovary")
    rule = SmallLesionRule("area", 16 * 16, 100)
    cases = [replace(discs_.cases[0], lesion_px=1), replace(discs_.cases[1], lesion_px=2)]
    empty = replace(others.cases[0], lesion_px=0)
    dataset = ShardDataset(
        [
            replace(discs_, info=replace(discs_.info, small=rule), cases=cases),
            replace(others, cases=[empty]),
        ]
    )
    assert [dataset.small_rule(index) for index in range(3)] == [rule, rule, DEFAULT_RULE]
    assert [dataset.lesion(index) for index in range(3)] == ["small", "large", "none"]


def test_no_sets_make_an_empty_data_set():
    for dataset in (ShardDataset([]), ShardDataset([draw_discs(0)])):
        assert len(dataset) == dataset.n_bytes == 0
        assert list(iterate_batches(dataset, [], 4)) == []


def test_cases_stay_in_the_precision_of_their_files(mixed):
    pixels = 16 * 16
    assert mixed.n_bytes == 3 * pixels * (1 + 1) + 2 * pixels * (2 + 1)


@pytest.mark.parametrize(("max_value", "dtype"), [(255, np.uint8), (65535, np.uint16)])
def test_the_whole_range_becomes_minus_one_to_one(max_value, dtype):
    cases = draw_discs(1, max_value=max_value)
    cases.images[0, 0, :3] = (0, max_value, max_value // 2)
    dataset = ShardDataset([cases])
    assert cases.images.dtype == dtype
    image, mask = dataset.example(0)
    assert (image.dtype, mask.dtype) == (np.float32, np.uint8)
    assert (image.min(), image.max()) == (0, 1)
    images, _ = all_of(dataset)
    assert images[0, 0, 0, :2].tolist() == [-1, 1]
    assert images[0, 0, 0, 2].item() == pytest.approx(0, abs=0.01)
    assert images.abs().max() <= 1


def test_batches_are_float32_images_and_masks_of_0_and_1(mixed):
    for images, masks in iterate_batches(mixed, range(5), 2):
        assert images.shape == masks.shape == (len(images), 1, 16, 16)
        assert images.dtype == masks.dtype == torch.float32
        assert set(masks.unique().tolist()) == {0, 1}


def test_batches_follow_the_order_and_the_last_one_is_smaller(mixed):
    order = [4, 0, 2, 2, 1]
    batches = list(iterate_batches(mixed, order, 2))
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    found = torch.cat([masks for _, masks in batches])[:, 0].numpy()
    np.testing.assert_array_equal(found, [mixed.example(index)[1] for index in order])


def test_a_batch_larger_than_the_set_is_the_set(mixed):
    ((images, _),) = iterate_batches(mixed, range(5), 64)
    assert len(images) == 5


def test_colour_images_are_three_channels_with_the_warp_of_their_mask():
    dataset = ShardDataset([draw_discs(3, channels=3)])
    warp = Warp(rotation_deg=25, zoom=1.1, flip_x=True)
    images, masks = all_of(dataset, warp_of=lambda _: warp)
    assert images.shape == (3, 3, 16, 16)
    assert masks.shape == (3, 1, 16, 16)
    assert images.dtype == torch.float32
    for index in range(3):
        image, mask = dataset.example(index)
        for channel in range(3):
            moved, moved_mask = apply_warp(np.ascontiguousarray(image[..., channel]), mask, warp)
            np.testing.assert_allclose(images[index, channel].numpy(), moved * 2 - 1, atol=1e-6)
        np.testing.assert_array_equal(masks[index, 0].numpy(), moved_mask)
    assert dataset.n_bytes == 3 * 16 * 16 * (3 + 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_do_not_change_batches(workers, mixed):
    for found, expected in zip(all_of(mixed, workers=workers), all_of(mixed), strict=True):
        assert torch.equal(found, expected)


def test_image_and_mask_share_the_warp_of_their_case(mixed):
    warps = {index: Warp(rotation_deg=10.0 * index, flip_x=index % 2 == 0) for index in range(5)}
    images, masks = all_of(mixed, warp_of=warps.get)
    for index, warp in warps.items():
        image, mask = apply_warp(*mixed.example(index), warp)
        np.testing.assert_allclose(images[index, 0].numpy(), image * 2 - 1, atol=1e-6)
        np.testing.assert_array_equal(masks[index, 0].numpy(), mask)


def test_warping_does_not_change_the_stored_cases(mixed):
    before = [array.copy() for array in mixed.example(1)]
    all_of(mixed, warp_of=lambda _: Warp(rotation_deg=30, flip_y=True))
    for found, expected in zip(mixed.example(1), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_error_in_a_thread_is_not_lost(mixed):
    with pytest.raises(IndexError):
        list(iterate_batches(mixed, [0, 99], 2))


def test_leaving_the_batches_early_leaves_no_thread_waiting(mixed):
    batches = iterate_batches(mixed, list(range(5)) * 4, 1)
    images, _ = next(batches)
    batches.close()
    assert len(images) == 1


@pytest.mark.parametrize(
    ("n", "size", "merged"),
    [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (1, 3, [1]), (3, 1, [1, 1, 1]), (4, 3, [4]), (0, 3, [])],
)
def test_a_lone_last_case_joins_the_previous_batch_when_training_asks_for_it(n, size, merged):
    batches = in_batches(range(n), size, merge_lone=True)
    assert [len(batch) for batch in batches] == merged
    assert [index for batch in batches for index in batch] == list(range(n))
    assert all(len(batch) <= size for batch in in_batches(range(n), size))
