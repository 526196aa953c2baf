import gc
import weakref

import pytest
import torch

from flames_cli.learn.model_pool import ModelPool

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
