"""What the server sees: everything that the collector receives is noise until the sum is opened."""

import re

import numpy as np
import pytest
from scipy import stats

from flames_cli.secagg import add_group_mask
from flames_cli.secagg.fixed_point import FIXED_POINTS
from tests.support.secagg import Federation, add_up

LENGTH = 4000
LEAST_P = 1e-9
"""A test fails by chance once in a thousand million comparisons."""


def inputs(kind, clients=4, bits=64):
    """Vectors as different from noise as can be, and from each other."""
    fixed = FIXED_POINTS[bits]
    values = {
        "zero": lambda i: np.zeros(LENGTH),
        "one": lambda i: np.full(LENGTH, 1.0),
        "ramp": lambda i: np.linspace(-1, 1, LENGTH) * (i + 1),
    }[kind]
    vectors = {}
    for i in range(clients):
        vectors[f"site-{i}"] = np.empty(LENGTH, fixed.dtype)
        fixed.encode_into(vectors[f"site-{i}"], values(i), 1.0, clients, "w")
    return vectors


def masked(federation):
    """The vectors that the collector received, one row a client."""
    assert set(federation.masked) == set(federation.vectors)
    return np.array([words.view(np.uint8) for words in federation.masked.values()])


def until_trained(vectors, bits=64):
    federation = Federation(vectors, bits)
    federation.until(federation.train)
    return federation


def p_of_uniform_bytes(data):
    return stats.chisquare(np.bincount(data.ravel(), minlength=256)).pvalue


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("kind", ["zero", "one", "ramp"])
def test_every_masked_vector_has_uniform_bytes(kind, bits):
    for row in masked(until_trained(inputs(kind, bits=bits), bits)):
        assert p_of_uniform_bytes(row) > LEAST_P
        for place in range(bits // 8):  # each byte of the words, from the lowest to the highest
            assert p_of_uniform_bytes(row[place :: bits // 8]) > LEAST_P


def test_bytes_that_are_not_uniform_are_noticed():
    assert p_of_uniform_bytes(np.concatenate([v.view(np.uint8) for v in inputs("ramp").values()])) < LEAST_P


def p_of_correlation(one, two):
    return stats.pearsonr(one.astype(float), two.astype(float)).pvalue


def test_no_masked_vector_is_correlated_with_an_input_or_another_masked_vector():
    vectors = inputs("ramp")
    rows = masked(until_trained(vectors)).view("<u8")
    for row in rows:
        for words in vectors.values():
            assert p_of_correlation(row, words.view("<i8")) > LEAST_P
    for i, row in enumerate(rows):
        for other in rows[:i]:
            assert p_of_correlation(row, other) > LEAST_P
            assert p_of_uniform_bytes((row - other).view(np.uint8)) > LEAST_P
            assert p_of_uniform_bytes((row + other).view(np.uint8)) > LEAST_P


def test_all_but_one_of_the_masked_vectors_add_up_to_noise():
    """Own masks remain in each partial sum, also in that of all clients."""
    rows = masked(until_trained(inputs("one"))).view("<u8")
    sums = [np.sum(np.delete(rows, i, axis=0), axis=0) for i in range(len(rows))]
    for total in [*sums, np.sum(rows, axis=0)]:
        assert p_of_uniform_bytes(total.view(np.uint8)) > LEAST_P


def test_the_same_input_gives_independent_views():
    vectors = inputs("ramp")
    one, two = (masked(until_trained(vectors)).view("<u8") for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert not np.any(first == second)
        assert p_of_correlation(first, second) > LEAST_P
        assert p_of_uniform_bytes((first - second).view(np.uint8)) > LEAST_P


def test_nothing_that_the_collector_receives_comes_twice():
    """No key, share, commitment or box is used again in a second session with the same inputs."""
    vectors = inputs("zero")
    seen = []
    for _ in range(2):
        federation = Federation(vectors)
        federation.until(federation.unmask)
        texts = " ".join(data.decode() for data in federation.texts)
        seen.append(set(re.findall(r"[0-9a-f]{64,}", texts)))
    assert len(seen[0]) > 4 * (2 + 2 * 3 + 3 + 4)
    assert not seen[0] & seen[1]


def test_two_runs_with_other_inputs_and_the_same_sum_give_the_same_view():
    """The distributions of the views are compared byte by byte, and both open exactly the same sum."""
    ramp, one = inputs("ramp"), inputs("one")
    total = add_up(ramp)
    other = {name: words.copy() for name, words in one.items()}
    other["site-3"] = total - add_up({name: other[name] for name in ("site-0", "site-1", "site-2")})
    views, opened = [], []
    for vectors in (ramp, other):
        federation = Federation(vectors)
        opened.append(federation.run())
        views.append(masked(federation))
    for words in opened:
        np.testing.assert_array_equal(words, total)
    for one_row, other_row in zip(*views, strict=True):
        counts = [np.bincount(row, minlength=256) for row in (one_row, other_row)]
        assert stats.chi2_contingency(counts).pvalue > LEAST_P
        assert stats.ks_2samp(one_row.view("<u8"), other_row.view("<u8")).pvalue > LEAST_P


COUNTS = (10, 10, 5)
"""Numbers of images of three clients, of which two are equal."""


def test_two_weighted_sums_would_reveal_a_client():
    """FLAMES needs Σ w/n and Σ w: with both, the server has the third client's weights."""
    weights = np.random.default_rng(0).standard_normal((3, 50))
    by_images = sum(w / n for w, n in zip(weights, COUNTS, strict=True))
    np.testing.assert_allclose(10 * by_images - weights.sum(axis=0), weights[2])


def test_a_part_that_clients_hide_is_noise_for_the_server_and_a_sum_for_them():
    fixed, half = FIXED_POINTS[64], LENGTH // 2
    weights = np.random.default_rng(0).standard_normal((3, half))
    vectors = {}
    for i, w in enumerate(weights):
        vectors[f"site-{i}"] = np.empty(LENGTH, "<u8")
        fixed.encode_into(vectors[f"site-{i}"][:half], w, 5 / COUNTS[i], 3, "w")
        fixed.encode_into(vectors[f"site-{i}"][half:], w, 1.0, 3, "w")
    federation = Federation(vectors)
    federation.until(federation.receive)
    keys = {client.group_key for client in federation.clients.values()}
    for words in vectors.values():
        add_group_mask(words[:half], next(iter(keys)), "conv.weight")
    federation.train()
    federation.unmask()
    opened = federation.collector.open()
    assert p_of_uniform_bytes(opened[:half].view(np.uint8)) > LEAST_P
    np.testing.assert_allclose(fixed.decode(opened[half:]), weights.sum(axis=0), atol=fixed.error(3))
    add_group_mask(opened[:half], next(iter(keys)), "conv.weight", -3)
    expected = sum(5 / n * w for w, n in zip(weights, COUNTS, strict=True))
    np.testing.assert_allclose(fixed.decode(opened[:half]), expected, atol=2 * fixed.error(3))
    assert len(keys) == 1


def test_the_shares_of_one_client_fewer_than_the_threshold_are_uniform():
    """What the server holds of a secret before the opening is encrypted; single shares are uniform, too."""
    shares = []
    for _ in range(40):
        federation = Federation(inputs("zero"))
        federation.until(federation.train)
        opening = federation.clients["site-0"].unmask(federation.collector.close_vectors())
        shares += [share[1:] for share in opening.seeds.values()]
    assert p_of_uniform_bytes(np.frombuffer(b"".join(shares), np.uint8)) > LEAST_P
