from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial.distance import cdist

from flames_cli.core.imaging.near_duplicates import (
    COPY_BITS,
    NEAR_BITS,
    SERIES_BITS,
    SERIES_STEP,
    cluster_by_marks,
    cluster_near_duplicates,
    find_series_links,
    find_turned_copies,
)
from flames_cli.core.rng import derive_rng
from flames_cli.readers.formats.fingerprints import perceptual_hash

DATA = Path(__file__).parents[4] / "shared" / "data"
BUSI = DATA / "busi" / "Dataset_BUSI_with_GT"
OTU = DATA / "otu2d" / "images"


def slow_clusters(hashes, max_distance):
    near = cdist(hashes, hashes, "cityblock") <= max_distance
    first = list(range(len(hashes)))
    for i, j in np.argwhere(near):
        low, high = sorted((first[i], first[j]))
        first = [low if root == high else root for root in first]
    return first


def hash_of(path):
    return perceptual_hash(np.asarray(Image.open(path).convert("L")))


def test_near_hashes_share_the_index_of_their_first():
    hashes = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]])
    assert cluster_near_duplicates(hashes, 1) == [0, 1, 0, 1]


def test_a_case_in_between_links_its_neighbours():
    hashes = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert cluster_near_duplicates(hashes, 1) == [0, 0, 0]


def test_zero_distance_joins_only_equal_hashes():
    hashes = np.array([[0, 1], [1, 1], [0, 1]], dtype=bool)
    assert cluster_near_duplicates(hashes, 0) == [0, 1, 0]


def test_without_cases_there_is_no_cluster():
    assert cluster_near_duplicates(np.zeros((0, 8), bool), 3) == []


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(8)), elements=st.integers(0, 1)),
    st.integers(0, 4),
)
def test_clusters_equal_the_slow_way(hashes, max_distance):
    assert cluster_near_duplicates(hashes, max_distance) == slow_clusters(hashes.astype(float), max_distance)


def test_clusters_reach_across_blocks():
    hashes = derive_rng(0, "groups").random((1500, 256)) < 0.5
    hashes[1400] = hashes[3]
    hashes[1400, :NEAR_BITS] ^= True
    clusters = cluster_near_duplicates(hashes, NEAR_BITS)
    assert clusters[1400] == 3
    assert len(set(clusters)) == 1499


def test_five_thousand_equal_cases_are_one_cluster():
    assert set(cluster_near_duplicates(np.ones((5000, 256), bool), 0)) == {0}


@pytest.mark.parametrize("hashes", [np.full((2, 4), 2), np.zeros(4), np.full((2, 4), 255, np.uint8)])
def test_anything_but_rows_of_bits_is_rejected(hashes):
    with pytest.raises(ValueError, match="expected N×B bits"):
        cluster_near_duplicates(hashes, 1)


def test_negative_distance_is_rejected():
    with pytest.raises(ValueError, match="max_distance -1"):
        cluster_near_duplicates(np.zeros((2, 4), bool), -1)


@pytest.mark.skipif(not BUSI.exists(), reason="the shared BUSI images are not here")
def test_known_breast_duplicates_are_found_and_others_are_not():
    pairs = [
        ("benign (433)", "malignant (145)"),
        ("benign (202)", "benign (301)"),
        ("malignant (110)", "malignant (12)"),
    ]
    names = [name for pair in pairs for name in pair] + ["benign (135)", "benign (347)"]
    hashes = np.array([hash_of(BUSI / name.split()[0] / f"{name}.png") for name in names])
    assert cluster_near_duplicates(hashes, NEAR_BITS) == [0, 0, 2, 2, 4, 4, 6, 7]


@pytest.mark.skipif(not OTU.exists(), reason="the shared OTU_2d images are not here")
def test_ovary_frames_group_without_chaining_patients():
    numbers = (192, 194, 195, 216, 217, 72, 346)
    hashes = np.array([hash_of(OTU / f"{number}.JPG") for number in numbers])
    # 216 and 217 share the black outside of their sector, not the lesion: their numbers link them.
    assert cluster_near_duplicates(hashes, NEAR_BITS) == [0, 0, 0, 3, 4, 5, 6]
    assert (3, 4) in [link[:2] for link in find_series_links(hashes, [("", number) for number in numbers])]


SERIES = st.lists(st.none() | st.tuples(st.sampled_from(["", "benign"]), st.integers(0, 12)), max_size=12)


@given(SERIES, st.integers(0, 2**32))
def test_series_links_equal_the_slow_way(places, seed):
    hashes = np.random.default_rng(seed).random((len(places), 256)) < 0.2
    expected = [
        (i, j, int((hashes[i] != hashes[j]).sum()))
        for i in range(len(places))
        for j in range(i + 1, len(places))
        if places[i] and places[j]
        and places[i][0] == places[j][0]
        and abs(places[i][1] - places[j][1]) <= SERIES_STEP
        and (hashes[i] != hashes[j]).sum() <= SERIES_BITS
    ]  # fmt: skip
    assert find_series_links(hashes, places) == expected


@pytest.mark.skipif(not OTU.exists(), reason="the shared OTU_2d images are not here")
def test_neighbours_of_one_woman_are_linked_and_a_stranger_with_a_near_number_is_not():
    numbers = (147, 148, 149, 178, 179)
    hashes = np.array([hash_of(OTU / f"{number}.JPG") for number in numbers])
    links = find_series_links(hashes, [("", number) for number in numbers])
    assert {(numbers[a], numbers[b]) for a, b, _ in links} == {(147, 148), (147, 149), (148, 149)}
    assert min(bits for *_, bits in links) > COPY_BITS


@given(st.integers(0, 30), st.integers(1, 150), st.integers(0, 2**32))
def test_turned_copies_equal_the_slow_way(images, slices, seed):
    rng = np.random.default_rng(seed)
    turned = rng.random((slices, 8, 64)) < 0.5
    hashes = turned[rng.integers(0, slices, images), rng.integers(0, 8, images)] ^ (
        rng.random((images, 64)) < 0.4
    )
    distances = (hashes[:, None, None] != turned[None]).sum(-1).min(-1)
    expected = [(i, j, int(distances[i, j])) for i, j in np.argwhere(distances <= COPY_BITS)]
    assert find_turned_copies(hashes, turned) == expected


def test_names_that_share_a_mark_are_in_one_cluster_directly_or_through_others():
    marks = {"a": ["x"], "b": ["y"], "c": ["z"], "d": ["y", "x"], "e": [], "f": ["z", "z"]}
    assert cluster_by_marks(marks) == {"a": "a", "b": "a", "c": "c", "d": "a", "e": "e", "f": "c"}


@given(st.dictionaries(st.integers(0, 99).map(str), st.lists(st.sampled_from("pqrstu"), max_size=3)))
def test_no_mark_is_in_two_clusters(marks):
    found = cluster_by_marks(marks)
    for mark in "pqrstu":
        assert len({found[name] for name, own in marks.items() if mark in own}) <= 1
    order = list(marks)
    assert all(found[found[name]] == found[name] for name in marks)
    assert all(order.index(found[name]) <= order.index(name) for name in marks)
