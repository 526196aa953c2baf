"""The same run with secure aggregation by ray, whose processes answer one message each, and by inline."""

import pytest

from flames_cli.stages.federate.stage import federate
from flames_cli.stages.own_models import with_own_models
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import RunFolder
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.secure_runs import make_six
from tests.support.stages import federate_config


@pytest.mark.federated
@pytest.mark.slow
@pytest.mark.long
def test_ray_gives_the_bits_of_inline_with_other_masks(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums over more threads round differently
    make_six(tmp_path)
    options = {"strategy": "flames", "secure_aggregation": True, "lr": 0.05}
    inline = federate(federate_config(tmp_path, run="inline", **options))
    rayed = federate(federate_config(tmp_path, run="ray", engine="ray", **options))
    one, other = (load_state(result.folder / "checkpoints") for result in (inline, rayed))
    assert_same_state(other, one)
    for found, expected in zip(other.sums, one.sums, strict=True):
        assert (found.clients, found.total) == (expected.clients, expected.total)
    ours, theirs = (
        with_own_models(RunFolder(result.folder), state).personal
        for result, state in ((rayed, other), (inline, one))
    )
    assert sorted(ours) == sorted(theirs) == [f"{name}-{i}" for name in ("brats", "busi") for i in (1, 2, 3)]
    for client, weights in theirs.items():
        assert_same(ours[client], weights)
    assert without_timings(rayed.records) == without_timings(inline.records)
    assert rayed.final == inline.final
