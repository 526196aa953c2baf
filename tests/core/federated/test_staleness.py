import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.reports import Entries, Report
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.core.federated.staleness import rebase

ENTRIES = Entries(trainable=frozenset({"w"}), norm=frozenset({"v", "count"}), variances=frozenset({"v"}))
VALUES = hnp.arrays(np.float32, 4, elements=st.floats(-100, 100, width=32))
VARIANCES = hnp.arrays(np.float32, 4, elements=st.floats(0, 100, width=32))
MODELS = st.builds(
    lambda w, v, count: {"w": w, "v": v, "count": np.array(count, np.int64)},
    VALUES,
    VARIANCES,
    st.integers(0, 1000),
)


def make_report(weights):
    return Report("brain-1", "MRI", weights, 10, 4)


@given(MODELS, MODELS)
def test_a_fresh_report_stays_as_it_is(weights, model):
    report = make_report(weights)
    assert rebase(report, model, model, ENTRIES, 1.0) is report


@given(MODELS, MODELS, MODELS, st.floats(0.01, 1))
def test_a_stale_report_moves_the_newest_model_by_its_weighted_difference(weights, start, model, weight):
    moved = rebase(make_report(weights), start, model, ENTRIES, weight).weights
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    np.testing.assert_allclose(
        moved["w"], model["w"] + weight * (wide["w"] - start["w"]), rtol=1e-6, atol=1e-5
    )
    np.testing.assert_allclose(
        moved["v"], (1 - weight) * model["v"] + weight * wide["v"], rtol=1e-6, atol=1e-5
    )
    assert moved["count"] == np.rint(model["count"] + weight * (wide["count"] - model["count"]))
    assert [array.dtype for array in moved.values()] == [array.dtype for array in weights.values()]


@given(MODELS, MODELS, MODELS, st.floats(0.01, 1))
def test_a_variance_never_becomes_negative(weights, start, model, weight):
    assert (rebase(make_report(weights), start, model, ENTRIES, weight).weights["v"] >= 0).all()


def test_the_mean_of_rebased_reports_is_fedbuffs_step():
    rng = np.random.default_rng(0)
    model = {"w": rng.normal(size=50)}
    starts, ends = (
        [{"w": rng.normal(size=50)} for _ in range(3)],
        [{"w": rng.normal(size=50)} for _ in range(3)],
    )
    weights, counts = [1.0, 0.5, 0.25], [10, 30, 5]
    rebased = [
        rebase(make_report(end), start, model, ENTRIES, weight).weights
        for end, start, weight in zip(ends, starts, weights, strict=True)
    ]
    step = sum(
        n * s * (end["w"] - start["w"])
        for n, s, end, start in zip(counts, weights, ends, starts, strict=True)
    ) / sum(counts)
    np.testing.assert_allclose(weighted_mean(rebased, counts)["w"], model["w"] + step, rtol=1e-12)
