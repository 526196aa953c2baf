import numpy as np
import pytest

from flames_cli.core.federated.sum_layout import INTEGER_UNIT, SumLayout, unit_of

MODEL = {
    "conv.weight": np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4),
    "norm.running_var": np.array([0.5, 0.0, 3.0], np.float32),
    "norm.num_batches_tracked": np.array(1234),
}
N_WEIGHTS = 12 + 3 + 1


def vector(layout, weights, factor, numbers):
    parts = [
        np.asarray(values, np.float64) * scale for _, values, scale in layout.parts(weights, factor, numbers)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("with_plain", [False, True])
def test_a_sum_of_vectors_is_read_as_sums_of_weights_factors_and_numbers(with_plain):
    layout = SumLayout.of(MODEL, with_plain, 2)
    assert layout.size == (2 if with_plain else 1) * N_WEIGHTS + 1 + 2
    doubled = {name: (array * 2).astype(array.dtype) for name, array in MODEL.items()}
    total = vector(layout, MODEL, 0.5, [1.0, 2.0]) + vector(layout, doubled, 1.0, [10.0, 20.0])
    found = layout.read(lambda start, end: total[start:end], total)
    for name, array in MODEL.items():
        # The part with the factor is for the clients alone if the vector has the weights without it.
        weighted = found.hidden[name] * unit_of(array.dtype) if with_plain else found.weighted[name]
        np.testing.assert_allclose(weighted, array * 2.5)
        assert weighted.shape == array.shape
        if with_plain:
            np.testing.assert_allclose(found.plain[name], array * 3.0)
    assert bool(found.plain) == bool(found.hidden) == (not found.weighted) == with_plain
    assert found.factor == 1.5
    assert found.numbers.tolist() == [11.0, 22.0]


def test_parts_name_their_entries_and_follow_each_other():
    layout = SumLayout.of(MODEL, True, 1)
    parts = list(layout.parts(MODEL, 0.25, [7.0]))
    assert [name for name, _, _ in parts] == [
        *(f"'{name}'" for name in [*MODEL, *MODEL]),
        "the numbers of the report",
    ]
    assert sum(values.size for _, values, _ in parts) == layout.size
    with pytest.raises(ValueError, match="got 2 numbers, expected 1"):
        list(layout.parts(MODEL, 0.25, [7.0, 8.0]))


def test_arrays_that_are_not_contiguous_are_read_in_the_order_of_their_entries():
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    ((_, values, _), _) = SumLayout.of(weights, False, 0).parts(weights, 1.0, [])
    assert values.tolist() == weights["w"].reshape(-1).tolist()


def test_the_hidden_part_is_a_view_of_the_vector_in_the_order_of_the_entries():
    words = np.arange(2 * N_WEIGHTS + 1)
    parts = dict(SumLayout.of(MODEL, True, 0).hidden(words))
    assert list(parts) == list(MODEL)
    assert np.concatenate(list(parts.values())).tolist() == list(range(N_WEIGHTS))
    parts["conv.weight"][0] = -1
    assert words[0] == -1
    assert dict(SumLayout.of(MODEL, False, 0).hidden(words)) == {}


def test_counters_are_divided_by_a_unit():
    assert unit_of(np.dtype(np.int64)) == INTEGER_UNIT
    assert unit_of(np.dtype(np.float32)) == 1.0
