import math

import pytest

from flames_cli.trackers.figures import final_figures, label, round_figures
from tests.support.grouped import group, grouped_line


def client(name, modality="MRI", **figures):
    return {"client": name, "modality": modality, "seconds": 1.5, **figures}


RECORD = {
    "round": 3,
    "seconds": 4.0,
    "clients": [
        client("a", n_examples=10, train_loss=0.5, n_val=1.0, received_val_dice=0.2, trained_val_dice=0.3),
        client("b", n_examples=30, train_loss=0.1, n_val=3.0, received_val_dice=0.6, trained_val_dice=0.7),
        client("late", rejection_reason="it sent no report"),
    ],
    "accepted": ["a", "b"],
    "rejected": {"late": "it sent no report"},
    "bytes_down": 300,
    "bytes_up": 200,
    "rss_mb": 12.5,
}


def rate(client, modality):
    return {"b": 0.02, "": 0.01}.get(client, 0.1)


def test_the_figures_of_a_round_are_those_of_its_line():
    assert round_figures(RECORD, rate, private=False) == {
        "round/seconds": 4.0,
        "round/bytes_down": 300.0,
        "round/bytes_up": 200.0,
        "round/memory_mib": 12.5,
        "round/learning_rate": 0.01,
        "round/examples": 40.0,
        "round/accepted": 2.0,
        "round/rejected": 1.0,
        "pooled/train_loss": pytest.approx((10 * 0.5 + 30 * 0.1) / 40),
        "pooled/received_val_dice": pytest.approx(0.5),
        "pooled/trained_val_dice": pytest.approx(0.6),
        "train_loss/a": 0.5,
        "train_loss/b": 0.1,
        "received_val_dice/a": 0.2,
        "received_val_dice/b": 0.6,
        "trained_val_dice/a": 0.3,
        "trained_val_dice/b": 0.7,
        "examples/a": 10.0,
        "examples/b": 30.0,
        "seconds/a": 1.5,
        "seconds/b": 1.5,
        "seconds/late": 1.5,
        "learning_rate/a": 0.1,
        "learning_rate/b": 0.02,
        "learning_rate/late": 0.1,
    }


def test_the_figures_of_a_private_run_are_plain_means_without_any_client():
    found = round_figures({**RECORD, "epsilon": 4.7, "delta": 1e-5}, rate, private=True)
    assert found == {
        "round/seconds": 4.0,
        "round/bytes_down": 300.0,
        "round/bytes_up": 200.0,
        "round/memory_mib": 12.5,
        "round/learning_rate": 0.01,
        "privacy/epsilon": 4.7,
        "privacy/delta": 1e-5,
        "pooled/train_loss": pytest.approx(0.3),
        "pooled/received_val_dice": pytest.approx(0.4),
        "pooled/trained_val_dice": pytest.approx(0.5),
    }


def test_numbers_that_are_not_finite_or_missing_are_no_figures():
    record = {**RECORD, "rss_mb": None, "clients": [client("a", train_loss=math.nan, n_examples=10)]}
    found = round_figures(record, rate, private=False)
    assert "round/memory_mib" not in found
    assert not [name for name in found if "loss" in name]


def test_the_figures_of_the_end_are_of_the_chosen_round():
    final = {
        "round": 2,
        "clients": [client("a", val_dice=0.4, n_val=1.0), client("b", val_dice=0.8, n_val=3.0)],
    }
    assert final_figures(final, 2, private=False) == {
        "chosen/round": 2.0,
        "chosen/val_dice": pytest.approx(0.7),
        "chosen_val_dice/a": 0.4,
        "chosen_val_dice/b": 0.8,
    }
    assert final_figures(final, 2, private=True) == {
        "chosen/round": 2.0,
        "chosen/val_dice": pytest.approx(0.6),
    }
    assert final_figures(None, 7, private=False) == {"chosen/round": 7.0}


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        ("brats-1", "brats-1"),
        ("Klinik Süd", "Klinik Süd"),
        ("a/b,c", "a:2fb:2cc"),
        ("a:2f", "a:3a2f"),
        ("..", ":2e:2e"),
        ("ward\n1", "ward:0a1"),
    ],
)
def test_a_name_of_a_client_fits_every_tracker(client, shown):
    assert label(client) == shown


def test_the_figures_of_a_run_with_secure_aggregation_are_of_models():
    groups = {"MRI": group(3, 0.5, 0.4, 4.0), "US": group(1, 0.1, 0.8, 12.0)}
    record = grouped_line(
        3, groups, {"a": "MRI", "b": "MRI", "c": "MRI", "late": "US"}, rejected={"late": "no report"}
    )
    found = round_figures(record, rate, private=False)
    assert found["pooled/train_loss"] == pytest.approx((3 * 0.5 + 0.1) / 4)
    assert found["pooled/received_val_dice"] == pytest.approx((4 * 0.4 + 12 * 0.8) / 16)
    assert found["received_val_dice/model MRI"] == 0.4
    assert (found["round/accepted"], found["round/rejected"]) == (3.0, 1.0)
    assert found["seconds/late"] == 1.0
    assert not any(name.startswith("train_loss/") and "model" not in name for name in found)
    final = {"round": 3, "clients": [], "groups": {"US": group(3, 0.0, 0.6, 5.0, "")}}
    assert final_figures(final, 3, private=False)["chosen/val_dice"] == 0.6
