import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated import blocks
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.running_sum import RunningSum, weighted_mean
from flames_cli.core.federated.update_norms import distance
from tests.support.asserts import assert_same


@pytest.fixture
def small(monkeypatch):
    """Blocks of 4 values and up to 3 threads, so that small arrays are shared out."""
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(blocks, "SHARE", 5)
    monkeypatch.setattr(blocks, "_usable_cores", lambda: 3)


def make_models():
    rng = np.random.default_rng(0)

    def one():
        return {
            "conv": rng.standard_normal((5, 7)).astype(np.float32),
            "columns first": np.asfortranarray(rng.standard_normal((4, 5))),
            "half": rng.standard_normal(9).astype(np.float16),
            "count": np.array(rng.integers(100)),
            "zeros": -np.zeros(3, np.float32),
            "none": np.empty((0, 2), np.float32),
        }

    return [one() for _ in range(3)]


def test_each_block_is_computed_once_and_results_are_in_order(small):
    arrays = [np.arange(n) for n in (11, 1, 8, 0, 3)]
    seen = blocks.compute(lambda part: [block.tolist() for (block,) in part], [(array,) for array in arrays])
    assert len(seen) == 3
    assert [value for part in seen for block in part for value in block] == [
        value for array in arrays for value in array
    ]


def test_large_arrays_are_shared_out_among_threads(small):
    names = blocks.compute(lambda part: threading.current_thread().name, [(np.arange(40),)])
    assert len(names) == 3
    assert threading.main_thread().name not in names


def test_small_arrays_start_no_thread(small):
    names = blocks.compute(lambda part: threading.current_thread().name, [(np.arange(9),)])
    assert names == [threading.current_thread().name]


def test_nothing_to_compute_is_no_error():
    assert blocks.compute(len, []) == [0]


@given(sizes=st.lists(st.integers(0, 30), max_size=8), threads=st.integers(1, 9))
def test_any_sizes_are_written_completely(sizes, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 4)
        patch.setattr(blocks, "SHARE", 1)
        patch.setattr(blocks, "_usable_cores", lambda: threads)
        arrays = [np.zeros(size) for size in sizes]

        def fill(part):
            for (block,) in part:
                block += 1

        blocks.compute(fill, [(array,) for array in arrays])
    assert all((array == 1).all() for array in arrays)


def test_threads_and_blocks_change_no_bit(monkeypatch, small):
    models, factors = make_models(), [3.0, 1.0, 0.3]

    def results():
        running = RunningSum()
        for model, factor in zip(models, factors, strict=True):
            running.add(model, factor)
        personal, server = blend_flames(models, [3, 1, 7])
        return [running.mean(models[0]), weighted_mean(models, factors), *personal, server]

    shared_out = results()
    monkeypatch.setattr(blocks, "_usable_cores", lambda: 1)
    for one, other in zip(shared_out, results(), strict=True):
        assert_same(one, other)
        assert [np.signbit(array).tolist() for array in one.values()] == [
            np.signbit(array).tolist() for array in other.values()
        ]


def test_threads_do_not_change_how_a_distance_is_rounded(monkeypatch, small):
    first, second, _ = make_models()
    shared_out = distance(first, second)
    monkeypatch.setattr(blocks, "_usable_cores", lambda: 1)
    assert distance(first, second) == shared_out
