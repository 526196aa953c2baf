import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.aged_flames_blend import Aged, AgedFlamesBlend, AgedReports
from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.choice import flames_alpha
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.progress import NewestReport
from flames_cli.core.federated.shelf import IN_MEMORY
from tests.support.asserts import assert_same
from tests.support.reports import make_model, make_report

VALUES = hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
CLIENTS = st.lists(st.tuples(VALUES, st.integers(1, 10_000), st.integers(0, 9)), min_size=1, max_size=6)


def newest(values, n_examples, began):
    return NewestReport(n_examples, began, lambda: {"w": values})


@given(CLIENTS)
def test_fresh_reports_give_the_bits_of_rounds_in_step(clients):
    reports = {f"client-{i}": newest(values, n, 9) for i, (values, n, _) in enumerate(clients)}
    aged = AgedReports(reports, Buffering(1), 9)
    personal, server = blend_flames([{"w": values} for values, _, _ in clients], [n for _, n, _ in clients])
    assert_same(aged.server(), server)
    for i, model in enumerate(personal):
        assert_same(aged.personalised(f"client-{i}"), model)


@given(CLIENTS)
def test_a_stale_report_counts_less_by_its_weight(clients):
    reports = {f"client-{i}": newest(*client) for i, client in enumerate(clients)}
    aged = AgedReports(reports, Buffering(1, 0.5), 9)
    weights = [(1 + 9 - began) ** -0.5 for _, _, began in clients]
    wide = [values.astype(np.float64) for values, _, _ in clients]
    alpha = flames_alpha(len(clients))
    server = sum(s * w for s, w in zip(weights, wide, strict=True)) / sum(weights)
    np.testing.assert_allclose(aged.server()["w"], server, rtol=1e-5, atol=1e-4)
    for i in range(len(clients)):
        others = [j for j in range(len(clients)) if j != i]
        total = sum(weights[j] / clients[j][1] for j in others)
        mean = sum(weights[j] / clients[j][1] / total * wide[j] for j in others)
        expected = alpha * wide[i] + (1 - alpha) * mean
        np.testing.assert_allclose(aged.personalised(f"client-{i}")["w"], expected, rtol=1e-4, atol=1e-3)


def test_a_report_replaces_the_clients_older_one_and_the_others_stay():
    older = {name: NewestReport(10, 0, lambda: make_model(1.0)) for name in ("brain-1", "brain-2")}
    arrived = {"brain-1": NewestReport(10, 3, lambda: make_model(4.0))}
    blend = AgedFlamesBlend(IN_MEMORY, Aged(Buffering(1, 1.0), 3, older, arrived))
    blend.add(make_report("brain-1", 4.0))
    stale = 1 / 4
    expected = (4.0 + stale * 1.0) / (1 + stale)
    assert blend.server()["conv.weight"] == pytest.approx(np.full((2, 3), expected))
    assert set(blend.personal()) == {"brain-1", "brain-2"}
    # With two clients α is 0.6, and the other's share 0.4 whatever its weight.
    assert blend.personal()["brain-1"]["conv.weight"] == pytest.approx(np.full((2, 3), 0.6 * 4 + 0.4 * 1))
