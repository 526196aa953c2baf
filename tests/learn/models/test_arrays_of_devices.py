"""Copies between a device and arrays in one piece for each dtype; here the device is the CPU."""

import numpy as np
import torch

from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import fetch, send, to_weights
from tests.support.asserts import assert_same


def make(seed):
    model = build_model("unet", seed=seed, base_channels=4, depth=2)
    return model.to(memory_format=torch.channels_last)


def test_weights_fetched_in_one_piece_are_those_fetched_one_by_one():
    model = make(1)
    found = fetch(model.state_dict())
    assert_same(found, to_weights(model))
    assert all(array.flags.c_contiguous for array in found.values())


def test_fetched_weights_do_not_change_with_the_model():
    model = make(1)
    found = fetch(model.state_dict())
    expected = {name: array.copy() for name, array in found.items()}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    assert_same(found, expected)


def test_weights_sent_in_one_piece_arrive_whatever_their_type_and_order():
    source, model = to_weights(make(2)), make(1)
    odd = {
        name: np.asfortranarray(array.astype(">f8" if array.dtype.kind == "f" else ">i4"))
        for name, array in reversed(source.items())
    }
    send(odd, model.state_dict())
    assert_same(to_weights(model), source)
    assert model.head.weight.is_contiguous(memory_format=torch.channels_last)
