import gc
import weakref

import pytest
import torch

from flames_cli.learn.data import ShardDataset
from flames_cli.learn.model_pool import ModelPool
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from tests.support.asserts import assert_same
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")
SMALL = {"base_channels": 4, "depth": 2}


def lend(pool, name="unet", norm="batch", precision="fp32", **options):
    return pool.lend(name, norm, SMALL | options, CPU, precision)


def test_one_model_is_used_again_and_comes_back_as_a_new_one():
    pool = ModelPool()
    with lend(pool) as first:
        first.eval()
        first(torch.rand(1, 1, 16, 16)).sum().backward()
    with lend(pool) as again:
        assert again is first
        assert again.training
        assert all(parameter.grad is None for parameter in again.parameters())


@pytest.mark.parametrize(
    "other", [{"name": "utnet"}, {"norm": "group"}, {"precision": "bf16"}, {"base_channels": 8}]
)
def test_another_model_takes_its_place(other):
    pool = ModelPool()
    with lend(pool) as first:
        pass
    gone = weakref.ref(first)
    del first
    with lend(pool, **other):
        gc.collect()
        assert gone() is None


def test_two_clients_never_use_one_model():
    pool = ModelPool()
    with lend(pool) as first, lend(pool) as second:
        assert first is not second


def test_a_client_that_fails_gives_its_model_back():
    pool = ModelPool()
    with pytest.raises(ValueError, match="lost"), lend(pool) as first:
        raise ValueError("lost")
    with lend(pool) as again:
        assert again is first


@pytest.mark.parametrize("rule", ["plain", "fedprox", "fedgs"])
@pytest.mark.parametrize("precise", [True, False])
def test_a_client_trains_as_alone_after_another_one_failed_in_the_middle(rule, precise):
    pool, start = ModelPool(), to_weights(build_model("unet", seed=1, norm="batch", **SMALL))
    options = TrainOptions(local_epochs=1, batch_size=3, lr=1e-2, precise_norm=precise, grad_clip=1.0)
    local = LocalRound(seed=0, round=1, client="b", rule=rule, options=options)

    def train(model, seed, **others):
        sets = [ShardDataset([draw_discs(n, seed=seed)]) for n in (6, 3)]
        load_weights(model, start)
        return train_epochs(model, *sets, local, CPU, "fp32", **others)

    def fail(done, _):
        if done == 2:
            raise ValueError("lost")

    with lend(ModelPool()) as model:
        alone = train(model, seed=2)
    with pytest.raises(ValueError, match="lost"), lend(pool) as model:
        train(model, seed=3, on_step=fail)
    with lend(pool) as model:
        after = train(model, seed=2)
    assert_same(after.weights, alone.weights)
    assert (after.train_loss, after.received, after.trained) == (
        alone.train_loss,
        alone.received,
        alone.trained,
    )
