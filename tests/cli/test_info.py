import json

import pytest


def test_the_architecture_of_the_paper_s_model_fits_into_80_columns(flames):
    result = flames("info", "--model", "densenet-unet")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "densenet-unet (in_channels 1; norm batch)" in lines[0]
    assert max(map(len, lines)) <= 80
    (encoder,) = [line for line in lines if line.split()[:1] == ["encoder5"]]
    assert encoder.split()[-2:] == ["1024×7×7", "14,161,920"]
    assert any(line.split() == ["all", "31,264,705"] for line in lines)


def test_the_architecture_as_json_has_options_stages_and_their_sum(flames):
    options = ("--model-option", "depth=2", "--size", "32", "--channels", "3", "--norm", "group")
    found = json.loads(flames("info", "--model", "unet", *options, "--json").stdout)
    assert found["options"] == {"depth": 2, "in_channels": 3}
    assert (found["size"], found["norm"]) == (32, "group")
    assert found["parameters"] == sum(stage["parameters"] for stage in found["stages"])
    assert found["stages"][0]["shape"] == [3, 32, 32]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "64"), "got --size without a model"),
        (("--model", "unet", "--norm", "layer"), "got --norm layer, expected one of batch, group, frozen"),
        (("--model", "unet", "--channels", "2"), "got --channels 2, expected 1"),
        (("--model", "unte"), "did you mean unet"),
        (("--model", "unet", "--size", "8"), "expected at least 16×16"),
        (("--model", "unet", "--model-option", "width=3"), "unknown option 'width'"),
    ],
)
def test_a_wrong_option_is_one_line(error_line, options, message):
    assert message in error_line("info", *options)
