"""Strategies of a plug-in file in complete federations, from shards to evaluations."""

from urllib.parse import unquote

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from flames_cli.fed.events import ReportReceived
from flames_cli.plugins import FILES_VARIABLE, use_files
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.client_state import load_client_state
from flames_cli.store.runs import read_config
from tests.support.asserts import assert_same_state, assert_same_tree, without_timings
from tests.support.plugin_strategies import FILE
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated

OPTIONS = {"feddyn": {"optimiser": "sgd", "lr": 0.05}, "sharp-heads": {}}


@pytest.fixture(autouse=True)
def _file(monkeypatch):
    monkeypatch.setenv(FILES_VARIABLE, "")
    use_files([FILE])


def state_of(result):
    return load_state(result.folder / "checkpoints")


def memories_of(result):
    token = read_config(result.folder / "config.toml")["run"]["token"]
    folders = (result.folder / "clients").glob(f"{token}/*")
    return {unquote(folder.name): load_client_state(folder, 99999) for folder in folders}


def test_a_strategy_of_a_file_is_named_with_its_file():
    algorithm = get_algorithm("feddyn")
    assert algorithm.plugin.startswith("strategy 'feddyn' of strategies.py sha256:")
    assert "feddyn" in ALGORITHMS
    assert algorithm.has_client_state


class PulledPlug(Exception):
    """Exception that the program does not expect."""


def pull_plug(event):
    """Stop when the server has a report of round 2, whose client has stored its state of that round."""
    if isinstance(event, ReportReceived) and event.round == 2:
        raise PulledPlug


@pytest.mark.parametrize("strategy", OPTIONS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(strategy, tiny):
    options = {"strategy": strategy, **OPTIONS[strategy]}
    whole = federate(federate_config(tiny(), rounds=3, **options))
    root = tiny()
    with pytest.raises(PulledPlug):
        federate(federate_config(root, rounds=3, **options), pull_plug)
    resumed = federate(federate_config(root, rounds=3, **options))
    assert resumed.resumed_from == 1
    assert whole.records[-1]["rejected"] == {}
    assert_same_state(state_of(resumed), state_of(whole))
    assert without_timings(resumed.records) == without_timings(whole.records)
    assert_same_tree(memories_of(resumed), memories_of(whole))
    state, memories = state_of(whole), memories_of(whole)
    if strategy == "feddyn":
        parameters = state.optimiser_state["all"]["blend"].keys()
        assert [memory["rule"].keys() for memory in memories.values()] == [parameters] * 3
    else:
        assert sorted(state.server) == ["of brats", "of busi"]
        assert sorted(state.personal) == ["brats-1", "brats-2", "busi"]
        found = evaluate_run(root, strategy)
        assert found.content.options["plugins"] == [ALGORITHMS.origin(strategy).fact]
        assert [row.label for row in found.server] == ["MRI by of brats", "US by of busi"]
        assert [row.label for row in found.clients] == ["brats-1", "brats-2", "busi"]


@pytest.mark.long
def test_ray_gives_what_inline_gives(tiny, monkeypatch):
    """Its processes find the file by the environment."""
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root, options = tiny(), {"strategy": "feddyn", "fraction": 0.5, **OPTIONS["feddyn"]}
    inline = federate(federate_config(root, run="inline", **options))
    rayed = federate(federate_config(root, run="ray", engine="ray", **options))
    assert_same_state(state_of(rayed), state_of(inline))
    assert without_timings(rayed.records) == without_timings(inline.records)
    assert_same_tree(memories_of(rayed), memories_of(inline))


def write_strategy(folder, text):
    file = folder / "broken_strategy.py"
    file.write_text(
        "from flames_cli.core.federated.algorithm import Algorithm\n"
        "from flames_cli.core.federated.blends import MeanBlend\n"
        "from flames_cli.learn.local_updates import LocalUpdate\n" + text,
        encoding="utf-8",
    )
    use_files([file])


BROKEN_BLEND = """
class Bad(MeanBlend):
    def server(self):
        if self.round == 2 and not {fixed}:
            return {{}}
        return super().server()
STRATEGIES = {{"broken": Algorithm(local_update="plain", groups="all", blend=Bad)}}
"""


def test_a_blend_that_fails_stops_the_run_which_continues_after_its_correction(tiny, tmp_path):
    root = tiny()
    write_strategy(tmp_path, BROKEN_BLEND.format(fixed=False))
    with pytest.raises(FlamesError, match=r"server\(\) of its blend gives no entry .* in round 2 for"):
        federate(federate_config(root, strategy="broken", rounds=2))
    write_strategy(tmp_path, BROKEN_BLEND.format(fixed=True))
    done = federate(federate_config(root, strategy="broken", rounds=2))
    assert done.resumed_from == 1
    plain = federate(federate_config(tiny(), strategy="fedavg", rounds=2))
    assert_same_state(state_of(done), state_of(plain))


def test_a_rule_that_fails_at_one_client_costs_only_its_report(tiny, tmp_path):
    write_strategy(
        tmp_path,
        """
class Bad(LocalUpdate):
    def step(self):
        if self.n_steps == 3:
            raise ValueError("three steps")
        super().step()
STRATEGIES = {"broken": Algorithm(local_update=Bad, groups="modality", blend="mean")}
""",
    )
    done = federate(federate_config(tiny(), strategy="broken", rounds=1, batch_size=2))
    (reason,) = done.records[0]["rejected"].values()
    assert "step() of its local update fails (ValueError: three steps)" in reason
    assert "broken_strategy.py" in reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dp_noise": 1.0, "dp_clip": 1.0}, "has more than one mean to blur"),
        ({"aggregation": "median"}, "replaces a plain mean, and this strategy takes none"),
        ({"server_momentum": 0.5}, "strategy feddyn has no server momentum"),
    ],
)
def test_options_that_need_one_plain_mean_are_rejected(options, message, tiny):
    with pytest.raises(FlamesError, match=message):
        federate(federate_config(tiny(), strategy="feddyn", **options))


def test_a_rule_of_a_plug_in_may_be_private(tiny, tmp_path):
    write_strategy(
        tmp_path,
        """
import torch
class Signs(LocalUpdate):
    @torch.no_grad()
    def step(self):
        for one in self.model.parameters():
            if one.grad is not None:
                one.grad.sign_()
        self.optimiser.step()
STRATEGIES = {"signs": Algorithm(local_update=Signs, groups="all", blend="mean")}
""",
    )
    done = federate(federate_config(tiny(), strategy="signs", rounds=1, dp_noise=0.5, dp_clip=1.0))
    assert done.records[0]["rejected"] == {}
    assert all(np.isfinite(array).all() for array in state_of(done).server["all"].values())
