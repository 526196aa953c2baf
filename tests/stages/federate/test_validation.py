import json

import pytest

from flames_cli.core.federated.best_round import score_rounds
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.federate.validation import read_validation
from flames_cli.store.runs import RunFolder, read_rounds
from tests.support.grouped import group, grouped_line
from tests.support.stages import federate_config

CLIENTS = {"a": "MRI", "b": "MRI", "c": "US"}


def client(name, dice, n=4.0, modality="MRI", key="received_val_dice"):
    return {"client": name, "modality": modality, key: dice, "n_val": n, "n_val_patients": n / 2}


def make_run(folder, lines, final=None):
    """Return a run with these lines, whose rounds are all stored."""
    run = RunFolder(folder / "mine")
    for line in lines:
        (run.checkpoints / f"round-{line['round']:05d}").mkdir(parents=True)
    run.rounds.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if final:
        stamped = {"format": "flames-final-models", "version": 2, "missing": {}, **final}
        run.final_models.write_text(json.dumps(stamped), encoding="utf-8")
    return run


def of(run, tmp_path, **options):
    return read_validation(run, federate_config(tmp_path, **options), read_rounds(run.rounds))


def make_lines(*dice):
    """Return lines of rounds with clients a and b (MRI) and c (US), from the Dice of each."""
    names = (("a", 4.0, "MRI"), ("b", 12.0, "MRI"), ("c", 8.0, "US"))
    return [
        {
            "round": number,
            "clients": [
                client(name, value, n, modality)
                for (name, n, modality), value in zip(names, values, strict=True)
                if value is not None
            ],
        }
        for number, values in enumerate(dice, start=1)
    ]


LINES = make_lines((0.1, 0.1, 0.1), (0.4, 0.6, 0.5), (0.3, 0.5, 0.4))
"""The best round is 1, whose models are received in round 2."""

FINAL = {
    "round": 3,
    "clients": [client("a", 0.2, key="val_dice"), client("b", 0.4, 12.0, key="val_dice")],
    "earlier": [
        {"round": 1, "clients": [client("a", 0.7, key="val_dice"), client("b", 0.8, 12.0, key="val_dice")]}
    ],
}


def test_a_client_has_its_dice_in_the_best_and_the_last_round(tmp_path):
    found = of(make_run(tmp_path, LINES, FINAL), tmp_path)
    assert (found.best_round, found.last_round) == (1, 3)
    rows = {row.label: (row.patients, row.images, row.best, row.last) for row in found.clients}
    assert rows["a"] == pytest.approx((2, 4, 0.7, 0.2))
    assert rows["b"] == pytest.approx((6, 12, 0.8, 0.4))
    assert rows["c"] == pytest.approx((4, 8, 0.5, 0.4)), "no report on final models: its last ones before"


def test_a_model_has_the_mean_over_the_images_of_its_clients(tmp_path):
    found = of(make_run(tmp_path, LINES, FINAL), tmp_path)
    mri, us = found.models
    assert (mri.label, mri.n_clients, mri.patients, mri.images) == ("MRI", 2, 8, 16)
    assert mri.best == pytest.approx((4 * 0.7 + 12 * 0.8) / 16)
    assert mri.last == pytest.approx((4 * 0.2 + 12 * 0.4) / 16)
    assert (us.label, us.images) == ("US", 8)
    assert found.total.best == score_rounds(LINES, [FINAL, *FINAL["earlier"]]).of(1)


def test_a_strategy_with_one_model_has_one_row_and_one_without_shared_models_has_none(tmp_path):
    run = make_run(tmp_path, LINES)
    assert [row.label for row in of(run, tmp_path, strategy="fedavg").models] == ["all"]
    assert of(run, tmp_path, strategy="local").models == []


def test_a_client_that_was_not_asked_has_its_last_dice_before(tmp_path):
    lines = make_lines((0.1, 0.1, 0.1), (0.4, 0.6, None), (0.9, 0.9, None), (0.3, 0.5, 0.4))
    found = of(make_run(tmp_path, lines), tmp_path)
    assert found.best_round == 2
    assert [row.best for row in found.clients][:2] == [0.9, 0.9]


def test_a_private_run_has_no_rows_of_single_clients_and_no_best_round(tmp_path):
    run = make_run(tmp_path, LINES, FINAL)
    found = of(run, tmp_path, strategy="fedavg-modality", dp_noise=1.0, dp_clip=1.0)
    assert (found.clients, found.best_round) == ([], None)
    assert [(row.label, row.best) for row in found.models] == [("MRI", None), ("US", None)]


def test_a_run_without_validation_patients_has_no_table(tmp_path):
    lines = [{"round": 1, "clients": [{"client": "a", "modality": "MRI", "train_loss": 0.4}]}]
    assert of(make_run(tmp_path, lines), tmp_path) is None


@pytest.mark.federated
def test_the_last_column_is_the_dice_of_the_final_models(tiny):
    result = federate(federate_config(tiny(), rounds=1))
    reported = {one["client"]: one["val_dice"] for one in result.final["clients"]}
    assert {row.label: row.last for row in result.validation.clients} == pytest.approx(reported)


GROUPED = [
    grouped_line(number, {"MRI": group(2, 0.5, mri, 16.0), "US": group(1, 0.5, us, 8.0)}, CLIENTS)
    for number, (mri, us) in enumerate(((0.1, 0.1), (0.7, 0.5), (0.3, 0.4)), start=1)
]


def test_a_run_with_secure_aggregation_has_rows_of_models_only(tmp_path):
    found = of(make_run(tmp_path, GROUPED), tmp_path, strategy="fedavg-modality", secure_aggregation=True)
    assert found.clients == []
    assert [(row.label, row.n_clients, row.patients, row.images, row.best) for row in found.models] == [
        ("MRI", 2, 8, 16, 0.7),
        ("US", 1, 4, 8, 0.5),
    ]
    assert (found.total.n_clients, found.total.images, found.best_round) == (3, 24, 1)
    assert found.total.best == pytest.approx((16 * 0.7 + 8 * 0.5) / 24)


def test_the_models_that_clients_make_from_sums_are_offered_after_the_last_round_only(tmp_path):
    found = of(make_run(tmp_path, GROUPED), tmp_path, secure_aggregation=True)
    assert (found.best_round, found.last_round) == (None, 3)
    assert [row.last for row in found.models] == [0.3, 0.4]
