import numpy as np
import pytest

from flames_cli.core.scores.metrics import case_metrics, count_pixels
from flames_cli.core.scores.surfaces import surface_distances
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.stages.evaluate.scoring import RunFacts, score_cases, score_volumes
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.workspace import partition_folder

MODEL = ModelUnderTest("US", "US", "server_test", {})
RUN = RunFacts("flames", 3, 2)


@pytest.fixture(scope="module")
def tests(workspace):
    """Return the server's US test set: two data sets, one of which shares its patients."""
    data = ShardDataset(read_shard_sets(partition_folder(workspace()) / "shards" / "server-US.h5", "test"))
    return HeldOutCases(data, {"busi": "ward"})


def left_half():
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 1
    return mask


@pytest.fixture(scope="module")
def scores(tests):
    """Return the scores of a model that predicts the left half of every image."""
    return score_cases(RUN, MODEL, tests, [left_half()] * len(tests.data))


def test_every_case_is_scored_by_the_metrics_of_core(tests, scores):
    assert len(scores) == len(tests.data)
    for index, found in enumerate(scores):
        truth = tests.data.example(index)[1]
        expected, counts = case_metrics(left_half(), truth), count_pixels(left_half(), truth)
        assert {name: getattr(found, name) for name in expected} == expected
        assert (found.tp, found.fp) == (counts.true_positive, counts.false_positive)
        assert (found.fn, found.tn) == (counts.false_negative, counts.true_negative)
        assert found.case == tests.data.case(index).case
        assert (found.dataset, found.organ) == (tests.data.dataset(index), tests.data.organ(index))
    assert {found.organ for found in scores} == {"breast", "ovary"}


def test_every_score_has_its_run_its_patient_and_the_size_of_its_lesions(tests, scores):
    for index, found in enumerate(scores):
        assert (found.run, found.seed, found.fold) == ("flames", 3, 2)
        assert found.patient == tests.data.case(index).split_unit
        assert found.lesion == tests.data.lesion(index)
        place = {"busi": "ward", "otu2d": "otu2d"}[found.dataset]
        assert found.person == f"{place}/{found.patient}"


@pytest.fixture(scope="module")
def volumes(workspace):
    """Return the server's MRI test set, with all slices of its volumes."""
    shard = partition_folder(workspace()) / "shards" / "server-MRI.h5"
    return HeldOutCases(ShardDataset(read_shard_sets(shard, "test", complete=True)))


def test_a_perfect_volume_has_no_distance_and_no_error(volumes):
    truth = [volumes.data.mask(index) for index in range(len(volumes.data))]
    scores = score_volumes(RUN, MODEL, volumes, truth)
    assert len(scores) == len(volumes.data.volumes) > 0
    for found in scores:
        assert (found.dice, found.sensitivity, found.precision, found.nsd_2mm) == (1, 1, 1, 1)
        assert (found.hd95_mm, found.assd_mm, found.volume_error_ml) == (0, 0, 0)
        assert found.lesions == found.lesions_predicted == found.lesions_matched


def test_a_volume_that_is_moved_by_a_slice_is_as_far_as_its_slices_are_apart(volumes):
    masks = [volumes.data.mask(index) for index in range(len(volumes.data))]
    for volume in volumes.data.volumes:
        order = volume.indices
        for before, after in zip(order, (order[-1], *order[:-1]), strict=True):
            masks[before] = volumes.data.mask(after)
    for volume, found in zip(volumes.data.volumes, score_volumes(RUN, MODEL, volumes, masks), strict=True):
        thickness, *_ = volume.voxel_mm(32)
        assert found.hd95_mm == pytest.approx(thickness)
        assert found.volume_error_ml == 0


def test_a_missed_volume_has_an_infinite_distance_and_its_diagonal_next_to_it(volumes):
    empty = [np.zeros((32, 32), np.uint8)] * len(volumes.data)
    for volume, found in zip(volumes.data.volumes, score_volumes(RUN, MODEL, volumes, empty), strict=True):
        assert (found.hd95_mm, found.nsd_2mm, found.sensitivity, found.precision) == (np.inf, 0, 0, None)
        shape = np.multiply(volume.raw_shape, volume.spacing_mm)
        depth = len(volume.indices) * volume.voxel_mm(32)[0]
        assert found.diagonal_mm == pytest.approx(np.linalg.norm([depth, *shape]))
        assert found.volume_error_ml == -found.volume_ml < 0


def test_a_volume_of_which_slices_are_missing_has_no_score(volumes, workspace):
    shard = partition_folder(workspace()) / "shards" / "server-MRI.h5"
    selected = HeldOutCases(ShardDataset(read_shard_sets(shard, "test")))
    masks = [selected.data.mask(index) for index in range(len(selected.data))]
    assert len(selected.data) < len(volumes.data)
    assert score_volumes(RUN, MODEL, selected, masks) == []


def test_distances_in_mm_are_those_in_source_pixels_times_their_size(volumes):
    masks = [np.roll(volumes.data.mask(index), 2, axis=0) for index in range(len(volumes.data))]
    scores = score_cases(RUN, MODEL, volumes, masks)
    selected = [one for one in scores if one.selected]
    assert selected
    for index, found in enumerate(scores):
        case = volumes.data.case(index)
        if not found.selected:
            assert found.hd95_px is found.hausdorff_px is found.lesions is None
            continue
        assert found.volume == case.volume
        sides = np.divide(max(case.raw_shape), 32), case.spacing_mm
        expected = surface_distances(
            masks[index], volumes.data.mask(index), [sides[0] * mm for mm in sides[1]]
        )
        assert (found.hd95_mm, found.assd_mm) == pytest.approx((expected.hd95, expected.assd))
        assert found.diagonal_px == pytest.approx(np.hypot(*case.raw_shape))
