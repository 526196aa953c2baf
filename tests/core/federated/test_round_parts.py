"""Numbers of clients, or of the clients of a model together."""

import pytest

from flames_cli.core.federated.best_round import score_rounds
from flames_cli.core.federated.round_parts import has_groups, scored_parts
from tests.support.grouped import group, grouped_line

CLIENTS = {"a": "MRI", "b": "MRI", "c": "MRI", "d": "US", "e": "US", "f": "US"}


def lines(*dice):
    """Return a line of each pair: Dice of the models MRI, of 4 images, and US, of 12."""
    return [
        grouped_line(number, {"MRI": group(3, 0.5, mri, 4.0), "US": group(3, 0.5, us, 12.0)}, CLIENTS)
        for number, (mri, us) in enumerate(dice, start=1)
    ]


def test_the_parts_of_a_record_are_its_clients_or_the_clients_of_each_model_together():
    plain = {"round": 1, "clients": [{"client": "a", "modality": "MRI", "train_loss": 0.4}]}
    assert scored_parts(plain) == plain["clients"]
    grouped = grouped_line(1, {"MRI": group(3, 0.4)}, {"a": "MRI"})
    assert scored_parts(grouped) == [
        {"client": "model MRI", "modality": "MRI", "clients": 3, "train_loss": 0.4}
    ]
    assert [has_groups(one) for one in (plain, grouped)] == [False, True]


@pytest.mark.parametrize(
    "record", [{}, {"clients": 3}, {"clients": [3, {"dice": 1}]}, {"groups": {"MRI": 3}}]
)
def test_a_record_that_was_edited_has_no_part(record):
    assert scored_parts(record) == []


def test_a_round_is_scored_over_the_images_of_all_groups():
    scores = score_rounds(lines((0.1, 0.1), (0.4, 0.8), (0.9, 0.2)))
    assert scores.dice["all"] == pytest.approx({1: (4 * 0.4 + 12 * 0.8) / 16, 2: (4 * 0.9 + 12 * 0.2) / 16})
    assert scores.patients == 8
    assert scores.best([1, 2]) == 1


def test_a_group_without_a_sum_in_a_round_counts_with_its_last_numbers():
    found = lines((0.1, 0.1), (0.4, 0.8), (0.9, 0.9))
    del found[2]["groups"]["US"]
    assert score_rounds(found).of(2) == pytest.approx((4 * 0.9 + 12 * 0.8) / 16)


def test_the_pass_after_the_last_round_scores_it():
    last = {"round": 2, "clients": [], "groups": {"MRI": group(3, 0.0, 0.7, 4.0, "")}, "missing": {}}
    assert score_rounds(lines((0.1, 0.1), (0.4, 0.8)), [last]).of(2) == pytest.approx(
        (4 * 0.7 + 12 * 0.8) / 16
    )
