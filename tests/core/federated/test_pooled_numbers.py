import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.pooled_numbers import NAMES, pool, to_parts

COUNTS = st.integers(0, 500)
DICE = st.floats(0, 1)


@st.composite
def metrics(draw):
    """The numbers of a client's report."""
    n_val = draw(COUNTS)
    found = {"train_loss": draw(st.floats(0, 5)), "best_epoch": 1.0}
    if n_val:
        small = draw(st.integers(0, n_val))
        found |= {
            "n_val": float(n_val),
            "n_val_patients": float(draw(st.integers(1, n_val))),
            "n_val_small": float(small),
        }
        found |= {"received_val_loss": draw(DICE), "received_val_dice": draw(DICE)}
        if small:
            found["received_val_dice_small"] = draw(DICE)
        if draw(st.booleans()):
            found |= {"trained_val_loss": draw(DICE), "trained_val_dice": draw(DICE)}
    return found


@given(st.lists(metrics(), min_size=3, max_size=6))
def test_pooled_numbers_are_those_of_all_validation_images_together(clients):
    reference = max(1, *(int(one.get("n_val", 0)) for one in clients))
    parts = [to_parts(one, reference) for one in clients]
    assert all(0 <= value <= 5 for each in parts for value in each)
    found = pool(np.sum(parts, axis=0), len(clients), reference)
    assert found["clients"] == len(clients)
    assert found["train_loss"] == pytest.approx(np.mean([one["train_loss"] for one in clients]))
    validated = [one for one in clients if "n_val" in one]
    assert ("n_val" in found) == bool(validated)
    for name in ("n_val", "n_val_patients", "n_val_small"):
        assert found.get(name, 0) == sum(one[name] for one in validated)
    for name, by in (
        ("received_val_dice", "n_val"),
        ("trained_val_loss", "n_val"),
        ("received_val_dice_small", "n_val_small"),
    ):
        has = [one for one in validated if name in one]
        total = sum(one[by] for one in has)
        assert (name in found) == (total > 0)
        if total:
            assert found[name] == pytest.approx(sum(one[name] * one[by] for one in has) / total)


def test_a_client_without_validation_adds_nothing_but_its_loss():
    parts = dict(zip(NAMES, to_parts({"train_loss": 0.25}, 100), strict=True))
    assert parts.pop("train_loss") == 0.25
    assert set(parts.values()) == {0.0}


def test_the_error_of_a_sum_gives_no_dice_outside_its_range():
    sums = np.array(
        to_parts({"train_loss": 1.0, "n_val": 10.0, "received_val_loss": 0.5, "received_val_dice": 1.0}, 10)
    )
    assert pool(sums + 1e-9, 1, 10)["received_val_dice"] == 1.0
