import pytest

from flames_cli.stages.evaluate.pictures import name_model, name_places


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (("client_test", "busi", "US"), "client busi (US)"),
        (("server_test", "US", "US"), "server model US"),
        (("server_test", "US", "US", "12 cases", ""), "server model US (12 cases)"),
        (
            ("server_test", "MRI", "CT", "1 case", "unseen modality"),
            "server model MRI (CT, 1 case, unseen modality)",
        ),
    ],
)
def test_the_name_of_a_model_has_its_modality_once(model, name):
    assert name_model(*model) == name


def test_every_case_is_drawn_once():
    assert name_places(1) == {0: "best / median / worst"}
    assert name_places(2) == {0: "best", 1: "median / worst"}
    assert name_places(5) == {0: "best", 2: "median", 4: "worst"}
