from types import SimpleNamespace

import pytest

from flames_cli.stages.report.cost import describe_privacy
from tests.support.stages import federate_config


@pytest.mark.parametrize(
    ("secure", "says"),
    [(False, "with noise 0.8 and clip 0.5."), (True, "with noise 0.8 that the clients added and clip 0.5.")],
)
def test_the_sentence_about_privacy_says_who_added_the_noise(secure, says, tmp_path):
    config = federate_config(tmp_path, dp_noise=0.8, dp_clip=0.5, secure_aggregation=secure)
    lines = [{"epsilon": 5.68, "delta": 1e-5}]
    text = describe_privacy(SimpleNamespace(first=SimpleNamespace(config=config, lines=lines)))
    assert text.startswith("Differential privacy: epsilon 5.68 (delta 1e-05) for each client, ")
    assert says in text
