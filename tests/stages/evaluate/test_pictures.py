from flames_cli.stages.evaluate.pictures import learning_curves


def test_learning_curves_are_of_models_as_they_came():
    clients = [{"client": "a", "received_val_dice": 0.1}, {"client": "b"}]
    records = [
        {"round": 1, "clients": clients},
        {"round": 2, "clients": [{"client": "a", "received_val_dice": 0.4}]},
    ]
    assert learning_curves(records) == {"a": [(0, 0.1), (1, 0.4)]}
