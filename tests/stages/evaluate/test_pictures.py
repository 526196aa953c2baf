from flames_cli.stages.evaluate.pictures import learning_curves


def test_learning_curves_are_of_models_as_they_came():
    clients = [{"client": "a", "received_val_dice": 0.1}, {"client": "b"}]
    records = [
        {"round": 1, "clients": clients},
        {"round": 2, "clients": [{"client": "a", "received_val_dice": 0.4}]},
    ]
    assert learning_curves(records) == {"a": [(0, 0.1), (1, 0.4)]}


def test_the_last_point_of_a_curve_is_of_the_final_model():
    records = [{"round": 1, "clients": [{"client": "a", "received_val_dice": 0.1}]}]
    final = {"round": 1, "clients": [{"client": "a", "val_dice": 0.7}, {"client": "b"}]}
    assert learning_curves(records, final) == {"a": [(0, 0.1), (1, 0.7)]}
    assert learning_curves(records, {**final, "round": 2}) == {"a": [(0, 0.1)]}
